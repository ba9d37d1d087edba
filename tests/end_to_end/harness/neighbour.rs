//! Another host, on the same wires as the one a test is.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::inspect::wait_for;
use super::{Balancer, Connection, Header, UdpBalancer};
use crate::namespace::{TestResult, run};

/// A host of its own: a network namespace, held open by a process that does nothing.
pub(crate) struct Neighbour(Child);

// === impl Neighbour ===

impl Neighbour {
    /// A host without a network.
    #[track_caller]
    pub(crate) fn new() -> TestResult<Self> {
        let process = Command::new("unshare")
            .args(["--net", "sleep", "600"])
            .stdin(Stdio::null())
            .spawn()?;
        let neighbour = Self(process);
        let ours = fs::read_link("/proc/self/ns/net")?;
        wait_for(|| Ok((fs::read_link(neighbour.namespace())? != ours).then_some(())))?;
        Ok(neighbour)
    }

    /// Lays a wire between two new interfaces: `ours` of this host, `theirs` of the neighbour. Each gets its addresses,
    /// with prefix lengths, and they are usable at once.
    #[track_caller]
    pub(crate) fn connect(
        &self,
        (ours, our_addresses): (&str, &[&str]),
        (theirs, their_addresses): (&str, &[&str]),
    ) -> TestResult {
        let pid = self.0.id();
        run(&format!(
            "ip link add {ours} type veth peer name {theirs} && ip link set {theirs} netns {pid}"
        ))?;
        self.configure("", ours, our_addresses)?;
        let inside = format!("nsenter --net={} ", self.namespace().display());
        self.configure(&inside, theirs, their_addresses)
    }

    /// Lays a tunnel (VXLAN) between two new interfaces over a wire with these addresses. What comes out of it at once the
    /// kernel merges, as it does for network cards (GRO), but not for a wire; and what the neighbour sends in one piece goes
    /// into it datagram by datagram.
    #[track_caller]
    pub(crate) fn tunnel(
        &self,
        (ours, our_wire, our_address): (&str, &str, &str),
        (theirs, their_wire, their_address): (&str, &str, &str),
    ) -> TestResult {
        let add = |interface: &str, local: &str, remote: &str| {
            format!(
                "ip link add {interface} type vxlan id 7 local {local} remote {remote} dstport 4789"
            )
        };
        let inside = format!("nsenter --net={} ", self.namespace().display());
        run(&add(ours, our_wire, their_wire))?;
        run(&format!("{inside}{}", add(theirs, their_wire, our_wire)))?;
        run(&format!("{inside}ip link set {theirs} gso_max_segs 1"))?;
        self.configure("", ours, &[our_address])?;
        self.configure(&inside, theirs, &[their_address])
    }

    /// A socket of a balancer there, with a port of the kernel's choice. A link-local address needs its interface:
    /// `fe80::9%peer0`.
    #[track_caller]
    pub(crate) fn udp_balancer(&self, ip: &str) -> TestResult<UdpBalancer> {
        self.udp_balancer_at(ip, 0)
    }

    /// The same with a port of the test's choice.
    #[track_caller]
    pub(crate) fn udp_balancer_at(&self, ip: &str, port: u16) -> TestResult<UdpBalancer> {
        let addr = self.addr(ip, port)?;
        self.run_there(move || UdpBalancer::bind_to(addr))
    }

    /// A TCP connection from a balancer there, with a header.
    #[track_caller]
    pub(crate) fn connect_tcp(
        &self,
        ip: &str,
        to: SocketAddr,
        header: &Header,
    ) -> TestResult<Connection> {
        let (from, header) = (self.addr(ip, 0)?, header.clone());
        self.run_there(move || Balancer::bound_to(from).connect_to(to, &header))
    }

    /// An address with a port as the neighbour writes it, where interfaces have other numbers than here.
    #[track_caller]
    pub(crate) fn addr(&self, ip: &str, port: u16) -> TestResult<SocketAddr> {
        let Some((ip, interface)) = ip.split_once('%') else {
            return Ok(SocketAddr::new(ip.parse()?, port));
        };
        let inside = format!("nsenter --net={} ", self.namespace().display());
        let link = run(&format!("{inside} ip -o link show dev {interface}"))?;
        let (index, _) = link.split_once(':').ok_or("no interface number")?;
        Ok(format!("[{ip}%{index}]:{port}").parse()?)
    }

    fn configure(&self, inside: &str, interface: &str, addresses: &[&str]) -> TestResult {
        // Its only addresses are those it is given.
        run(&format!(
            "{inside} ip link set {interface} addrgenmode none && {inside} ip link set {interface} up"
        ))?;
        for address in addresses {
            let options = if address.contains(':') { "nodad" } else { "" };
            run(&format!(
                "{inside} ip address add {address} dev {interface} {options}"
            ))?;
        }
        Ok(())
    }

    /// Does something on a thread of the neighbour. Sockets stay its own wherever they are used.
    fn run_there<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> TestResult<T> + Send + 'static,
    ) -> TestResult<T> {
        let namespace = File::open(self.namespace())?;
        let thread = thread::spawn(move || -> Result<T, String> {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .map_err(|error| error.to_string())?;
            work().map_err(|error| format!("{error:?}"))
        });
        let result = thread.join().map_err(|_| "the neighbour panicked")?;
        Ok(result?)
    }

    fn namespace(&self) -> PathBuf {
        format!("/proc/{}/ns/net", self.0.id()).into()
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        // Both fail if it has ended, which is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
