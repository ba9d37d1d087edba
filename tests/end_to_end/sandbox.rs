//! What the program keeps to itself once it runs, and that nothing it promises is lost by that.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;

use crate::harness::{Balancer, Header, Proxy, ProxyBuilder, TcpServer, wait_for};
use crate::namespace::{TestResult, isolated};

// Capabilities by their numbers (linux/capability.h).
const DAC_OVERRIDE: u64 = 1 << 1;
const DAC_READ_SEARCH: u64 = 1 << 2;
const NET_BIND_SERVICE: u64 = 1 << 10;
const NET_ADMIN: u64 = 1 << 12;
const NET_RAW: u64 = 1 << 13;
const SYS_RESOURCE: u64 = 1 << 24;

/// The capabilities of one thread, and what else holds it (proc_pid_status(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    effective: u64,
    permitted: u64,
    /// What an executed program could have: inheritable, bounding, ambient.
    passed_on: [u64; 3],
    no_new_privs: u64,
    seccomp: u64,
}

/// Those of all threads, by their names. Several may have one name.
fn threads(proxy: &Proxy) -> TestResult<Vec<(String, Held)>> {
    let mut threads = Vec::new();
    for task in fs::read_dir(format!("/proc/{}/task", proxy.pid().as_raw_nonzero()))? {
        let task = task?.path();
        // A thread may end meanwhile.
        let Ok(status) = fs::read_to_string(task.join("status")) else {
            continue;
        };
        let fields: BTreeMap<&str, &str> = status
            .lines()
            .filter_map(|line| line.split_once(":\t"))
            .collect();
        let bits = |name: &str| u64::from_str_radix(fields[name], 16);
        threads.push((
            fields["Name"].to_owned(),
            Held {
                effective: bits("CapEff")?,
                permitted: bits("CapPrm")?,
                passed_on: [bits("CapInh")?, bits("CapBnd")?, bits("CapAmb")?],
                no_new_privs: fields["NoNewPrivs"].parse()?,
                seccomp: fields["Seccomp"].parse()?,
            },
        ));
    }
    Ok(threads)
}

/// What a thread of a confined process holds that keeps these capabilities.
fn confined(kept: u64) -> Held {
    Held {
        effective: kept,
        permitted: kept,
        passed_on: [0; 3],
        no_new_privs: 1,
        seccomp: 2,
    }
}

/// Waits until each thread keeps what it should, and no more: by the beginning of its name, 0 for all others.
fn expect_kept(proxy: &Proxy, kept: &[(&str, u64)]) -> TestResult {
    let mut found = Vec::new();
    let outcome = wait_for(|| {
        found = threads(proxy)?;
        let as_it_should = |(name, held): &(String, Held)| {
            let kept = kept.iter().find(|(prefix, _)| name.starts_with(prefix));
            *held == confined(kept.map_or(0, |(_, kept)| *kept))
        };
        let all_there = kept
            .iter()
            .all(|(prefix, _)| found.iter().any(|(name, _)| name.starts_with(prefix)));
        Ok((all_there && found.iter().all(as_it_should)).then_some(()))
    });
    outcome.map_err(|error| format!("{error:?}: {found:x?}").into())
}

fn udp() -> TestResult<ProxyBuilder> {
    Ok(Proxy::udp(([127, 0, 0, 1], 25565).into()))
}

#[test]
fn every_thread_keeps_only_what_its_work_needs() -> TestResult {
    isolated(|| {
        let folder = tempfile::tempdir()?;
        let list = folder.path().join("list");
        fs::write(&list, "127.0.0.0/8\n")?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--admin", "127.0.0.1:0", "--listeners", "2", "--access-log"])
            .args([folder.path().join("access")])
            .args(["--allowed-subnets"])
            .args([&list])
            .start()?;
        expect_kept(
            &proxy,
            &[
                ("glommproxy", NET_ADMIN | DAC_READ_SEARCH),
                ("shard-0", NET_RAW | NET_BIND_SERVICE | SYS_RESOURCE),
                ("shard-1", NET_RAW | NET_BIND_SERVICE | SYS_RESOURCE),
                ("access-log", DAC_OVERRIDE),
                ("admin", 0),
                ("tracing", 0),
            ],
        )?;
        let status = proxy.admin()?.get("/status")?.body;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        let sandbox = &status["sandbox"];
        assert_eq!(sandbox["seccomp"], true);
        assert_eq!(
            sandbox["capabilities"],
            json!({
                "coordinator": ["CAP_DAC_READ_SEARCH", "CAP_NET_ADMIN"],
                "shards": ["CAP_NET_BIND_SERVICE", "CAP_NET_RAW", "CAP_SYS_RESOURCE"],
                "access_log": ["CAP_DAC_OVERRIDE"],
            })
        );
        proxy.stop()?.expect_success()
    })
}

#[test]
fn options_that_are_not_there_keep_nothing() -> TestResult {
    isolated(|| {
        let proxy = udp()?.without_routes().args(["--source-port", "any"]);
        let proxy = proxy.start()?;
        expect_kept(&proxy, &[("glommproxy", 0), ("shard-", NET_RAW)])?;
        proxy.stop()?.expect_success()
    })
}

/// As in a container with `--cap-add NET_ADMIN`.
#[test]
fn without_the_lesser_capability_the_greater_one_is_kept() -> TestResult {
    isolated(|| {
        let bounds = "-all,+net_admin,+setpcap";
        let proxy = udp()?
            .under(["setpriv", "--bounding-set", bounds])
            .start()?;
        expect_kept(&proxy, &[("glommproxy", NET_ADMIN), ("shard-", NET_ADMIN)])?;
        proxy.stop()?.expect_success()
    })
}

#[test]
fn without_the_sandbox_nothing_is_given_up() -> TestResult {
    isolated(|| {
        let proxy = udp()?
            .args(["--no-sandbox", "--admin", "127.0.0.1:0"])
            .start()?;
        let own = fs::read_to_string("/proc/self/status")?;
        let all = own.lines().find_map(|line| line.strip_prefix("CapEff:\t"));
        let all = u64::from_str_radix(all.ok_or("no CapEff")?, 16)?;
        for (name, held) in threads(&proxy)? {
            assert_eq!((held.effective, held.permitted), (all, all), "{name}");
            assert_eq!((held.no_new_privs, held.seccomp), (0, 0), "{name}");
        }
        let status = proxy.admin()?.get("/status")?.body;
        let status: serde_json::Value = serde_json::from_str(&status)?;
        assert!(status["sandbox"].is_null(), "{status}");
        proxy.stop()?.expect_success()
    })
}

/// A release is a folder, and `current` leads to the one that counts.
#[test]
fn a_link_may_lead_to_the_next_release() -> TestResult {
    isolated(|| {
        let top = tempfile::tempdir()?;
        let at = |path: &str| top.path().join(path);
        for (release, list) in [("1", "192.0.2.0/24\n"), ("2", "127.0.0.0/8\n")] {
            fs::create_dir_all(at("releases").join(release))?;
            fs::write(at("releases").join(release).join("list"), list)?;
        }
        fs::create_dir(at("etc"))?;
        symlink("../releases/1", at("etc/current"))?;
        let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?)
            .args(["--allowed-subnets"])
            .args([at("etc/current/list")])
            .start()?;
        symlink("../releases/2", at("etc/next"))?;
        fs::rename(at("etc/next"), at("etc/current"))?;
        proxy.wait_for_message("allowed subnets reloaded")?;
        let header = Header::v1("192.0.2.1:4000", "203.0.113.1:443")?;
        wait_for(|| {
            let served = Balancer::default().connect(&proxy, &header);
            let served = served.and_then(|connection| connection.expect_echo(b"hello"));
            Ok(served.is_ok().then_some(()))
        })?;
        proxy.stop()?.expect_success()
    })
}

/// What Landlock forbids is forbidden until the next start.
#[test]
fn a_list_that_moves_elsewhere_takes_a_restart_and_the_log_says_so() -> TestResult {
    isolated(|| {
        let (here, elsewhere) = (tempfile::tempdir()?, tempfile::tempdir()?);
        // Not even beside its folder.
        let folder = here.path().join("lists");
        fs::create_dir(&folder)?;
        let list = folder.join("list");
        fs::write(&list, "127.0.0.0/8\n")?;
        fs::write(elsewhere.path().join("list"), "192.0.2.0/24\n")?;
        let proxy = |args: &[&str]| {
            let proxy = Proxy::tcp(TcpServer::echo("127.0.0.1")?).args(args);
            proxy.args(["--allowed-subnets"]).args([&list]).start()
        };
        let confined = proxy(&[])?;
        let free = proxy(&["--no-sandbox"])?;
        symlink(elsewhere.path().join("list"), folder.join("new"))?;
        fs::rename(folder.join("new"), &list)?;
        free.wait_for_message("allowed subnets reloaded")?;
        let line = confined.wait_for_message("the old list of allowed subnets stays in force")?;
        let error = line["error"].as_str().ok_or("no error")?;
        assert!(error.contains("takes a restart"), "{error}");
        for proxy in [confined, free] {
            proxy.stop()?.expect_success()?;
        }
        Ok(())
    })
}
