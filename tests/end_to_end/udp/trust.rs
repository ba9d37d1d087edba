//! How much is believed of headers other than version 2 on each datagram.

use crate::harness::{Header, Proxy, UdpBalancer, UdpServer};
use crate::namespace::{TestResult, add_address, isolated};

const EDGE: &str = "203.0.113.1:443";

/// What the operator says of the trust in headers is said of these, too. A checksum they cannot have.
#[test]
fn the_operator_says_how_much_is_believed() -> TestResult {
    isolated(|| {
        add_address("203.0.113.5")?;
        let server = UdpServer::bind("127.0.0.1")?;
        let balancer = UdpBalancer::bind("203.0.113.5")?;
        let spp = Header::spp("127.0.0.1:4000", EDGE)?;
        let v2 = Header::v2_udp("127.0.0.1:4000", EDGE)?;
        for (mode, header) in [("spp", &spp), ("v2-first", &v2)] {
            let start = |args: &[&str]| {
                let proxy = Proxy::udp(server.addr()?).args(["--udp-header", mode, "-v", "1"]);
                proxy.args(args).start()
            };
            let proxy = start(&[])?;
            balancer.send(&proxy, header, b"refused")?;
            proxy.wait_for_message("datagram dropped")?;
            let exit = proxy.stop()?;
            assert_eq!(exit.total("sources_refused")?, 1, "{mode}");
            let proxy = start(&["--allow-loopback-clients"])?;
            balancer.send(&proxy, header, b"believed")?;
            server.expect("127.0.0.1:4000", b"believed")?;
            proxy.stop()?.expect_success()?;

            let proxy = start(&["--require-crc32c", "--allow-loopback-clients"])?;
            balancer.send(&proxy, header, b"without a checksum")?;
            if mode == "spp" {
                server.expect("127.0.0.1:4000", b"without a checksum")?;
                proxy.stop()?.expect_success()?;
            } else {
                proxy.wait_for_message("datagram dropped")?;
                assert_eq!(proxy.stop()?.total("header_errors")?, 1);
            }
        }
        server.expect_nothing()
    })
}
