//! Another server, which has not moved, cannot be reached just then.

use rustix::process::Signal;

use super::changed::{CHANGED, greeter, wait_until_leads_to};
use super::{NAME, at};
use crate::harness::{NameServer, Proxy};
use crate::namespace::{TestResult, isolated, run};
use crate::other_host::OtherHost;
use crate::routes::tables;

#[test]
fn it_does_not_hold_up_those_that_move() -> TestResult {
    isolated(|| {
        let (host, names) = (OtherHost::new(1)?, NameServer::start()?);
        for ip in ["127.0.0.7", "127.0.0.8"] {
            greeter(at(ip, 3000)?)?;
        }
        let other = at(&host.v4(), 3001)?;
        host.use_us_as_router()?;
        host.inside(move || greeter(other))?;
        names.set(NAME, &["127.0.0.7"])?;
        let proxy = Proxy::builder()
            .under(names.wrapper())
            .listen("127.0.0.1:2000,127.0.0.1:2001")
            .args(["-4", &format!("{NAME}:3000,{other}")])
            .start()?;
        wait_until_leads_to(proxy.addr_on(2001), other)?;

        run(&format!("ip link set {} down", host.interface()))?;
        names.set(NAME, &["127.0.0.8"])?;
        proxy.signal(Signal::HUP)?;
        proxy.wait_for_message(CHANGED)?;
        wait_until_leads_to(proxy.addr_on(2000), at("127.0.0.8", 3000)?)?;
        let warning = format!(
            "there is no route from this host to the server at {}",
            host.v4()
        );
        proxy.wait_for_message(&warning)?;
        // For when it is back.
        let rule = format!("from {} iif {}", host.v4(), host.interface());
        assert!(run("ip rule")?.contains(&rule), "{rule}");
        proxy.stop()?.expect_success()?;
        assert!(!tables()?.contains("proto 77"));
        Ok(())
    })
}
