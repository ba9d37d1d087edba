//! Another host, at the other end of a link.
//!
//! It is a network namespace of its own, in which a thread of the test works. Sockets, threads and programs that are made
//! there are on that host.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::namespace::{TestResult, run};

/// A host that is there until this is dropped.
pub(crate) struct OtherHost {
    /// Each such host has a network of its own, by its number: 10.77.N.0/24 and fd77:N::/64.
    number: u8,
    work: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    /// A process that keeps the namespace.
    keeper: Child,
}

// === impl OtherHost ===

impl OtherHost {
    /// A host with a link to this one and strict reverse path filtering on both, but no other route yet.
    #[track_caller]
    pub(crate) fn new(number: u8) -> TestResult<Self> {
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = keeper.stdout.take().ok_or("no standard output")?;
        // It speaks when it is there.
        BufReader::new(stdout).read_line(&mut String::new())?;
        let namespace = File::open(format!("/proc/{}/ns/net", keeper.id()))?;
        let (work, jobs) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        thread::spawn(move || {
            let there = Some(LinkNameSpaceType::Network);
            // Without it, the jobs are never done, and whoever waits for them is told.
            if move_into_link_name_space(namespace.as_fd(), there).is_ok() {
                jobs.into_iter().for_each(|job| job());
            }
        });
        let host = Self {
            number,
            work,
            keeper,
        };
        let prepare = "for sysctl in ipv4/ip_forward=0 ipv4/conf/all/rp_filter=1 ipv6/conf/all/accept_dad=0 ipv6/conf/default/accept_dad=0; \
                       do echo ${sysctl#*=} > /proc/sys/net/${sysctl%=*}; done && ip link set lo up";
        run(prepare)?;
        host.run(prepare)?;
        let (here, pid) = (host.interface(), host.keeper.id());
        run(&format!(
            "ip link add {here} type veth peer name eth0 netns {pid} && {}",
            set_up(&here, &host.router_v4(), &host.router_v6())
        ))?;
        let there = set_up("eth0", &host.v4(), &host.v6());
        host.run(&there)?;
        // Without an address of the link itself nobody asks for neighbours, and the kernel gives it a little later.
        run(&wait_for_link_address(&here))?;
        host.run(&wait_for_link_address("eth0"))?;
        Ok(host)
    }

    /// This host's name for the link.
    pub(crate) fn interface(&self) -> String {
        format!("link{}", self.number)
    }

    /// Its IPv4 address.
    pub(crate) fn v4(&self) -> String {
        format!("10.77.{}.2", self.number)
    }

    /// Its IPv6 address.
    pub(crate) fn v6(&self) -> String {
        format!("fd77:{}::2", self.number)
    }

    /// This host's IPv4 address on the link.
    pub(crate) fn router_v4(&self) -> String {
        format!("10.77.{}.1", self.number)
    }

    /// This host's IPv6 address on the link.
    pub(crate) fn router_v6(&self) -> String {
        format!("fd77:{}::1", self.number)
    }

    /// Makes this host its router.
    #[track_caller]
    pub(crate) fn use_us_as_router(&self) -> TestResult {
        let (v4, v6) = (self.router_v4(), self.router_v6());
        self.run(&format!(
            "ip route add default via {v4} && ip -6 route add default via {v6}"
        ))?;
        Ok(())
    }

    /// Runs a shell command there and returns what it wrote.
    #[track_caller]
    pub(crate) fn run(&self, command: &str) -> TestResult<String> {
        let command = command.to_owned();
        self.inside(move || run(&command))
    }

    /// Runs a closure there.
    #[track_caller]
    pub(crate) fn inside<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> TestResult<T> + Send + 'static,
    ) -> TestResult<T> {
        let (done, outcome) = mpsc::channel();
        self.work.send(Box::new(move || {
            // The other end waits.
            let _ = done.send(job());
        }))?;
        outcome.recv()?
    }
}

impl Drop for OtherHost {
    fn drop(&mut self) {
        // Both fail if it has ended, which is as good.
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// The commands that give an end of a link its addresses.
fn set_up(interface: &str, v4: &str, v6: &str) -> String {
    format!(
        "ip address add {v4}/24 dev {interface} && ip address add {v6}/64 dev {interface} && ip link set {interface} up"
    )
}

fn wait_for_link_address(interface: &str) -> String {
    format!(
        "until ip -6 address show dev {interface} scope link -tentative | grep -q fe80; do sleep 0.01; done"
    )
}
