//! What the kernel has to allow.

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use super::{check, check_under};
use crate::harness::{Proxy, TcpServer};
use crate::namespace::{TestResult, isolated};

#[test]
fn an_old_kernel() -> TestResult {
    isolated(|| {
        // It calls itself 2.6.
        let found = check_under(["setarch", "--uname-2.6"], [""; 0])?;
        let wanted = ["Linux 2.6.", "is too old", "5.8 or newer"];
        found.expect("kernel", "FAIL", &wanted)?;
        Ok(())
    })
}

#[test]
fn io_uring_is_blocked() -> TestResult {
    isolated(|| {
        let filter = SeccompFilter::new(
            [(libc::SYS_io_uring_setup, Vec::new())].into(),
            SeccompAction::Allow,
            SeccompAction::Errno(libc::EPERM.cast_unsigned()),
            std::env::consts::ARCH.try_into()?,
        )?;
        // For this thread, and what it starts.
        seccompiler::apply_filter(&BpfProgram::try_from(filter)?)?;
        let found = check([""; 0])?;
        let wanted = ["blocked by a seccomp filter", "--security-opt seccomp="];
        found.expect("io_uring", "FAIL", &wanted)?;
        let command =
            "docker run --security-opt seccomp=docker/seccomp.json --ulimit memlock=8388608 …";
        found.expect_commands("io_uring", &[command])?;
        Ok(())
    })
}

#[test]
fn too_little_memory_may_be_locked() -> TestResult {
    isolated(|| {
        let wrapper = [
            "prlimit",
            "--memlock=65536:65536",
            "setpriv",
            "--bounding-set",
            "-sys_resource",
        ];
        let found = check_under(wrapper, [""; 0])?;
        let command = "sudo prlimit --pid $$ --memlock=8388608:8388608";
        let wanted = ["only 65536 bytes", "--ulimit memlock=8388608", command];
        found.expect("memlock", "FAIL", &wanted)?;
        found.expect_commands("memlock", &[command])?;

        // In the lines for people it is to be read once.
        let check = Proxy::builder().bare().under(wrapper).args(["check"]);
        let exit = check.start_in_vain()?;
        let mut lines = exit.log.iter().filter_map(|line| line.as_str());
        let line = lines.find(|line| line.starts_with("FAIL  memlock"));
        let line = line.ok_or_else(|| format!("no such line: {exit:?}"))?;
        assert_eq!(line.matches(command).count(), 1, "{line}");
        Ok(())
    })
}

#[test]
fn too_few_files_may_be_open() -> TestResult {
    isolated(|| {
        let flags = ["-p", "both", "--listeners", "2"];
        let found = check_under(["prlimit", "--nofile=32:32"], flags)?;
        let wanted = ["only 32 files may be open", "LimitNOFILE"];
        let row = found.expect("open-files", "FAIL", &wanted)?;
        let command = row["commands"][0].as_str().unwrap_or_default();
        let needed = command.rsplit(':').next().unwrap_or_default();
        let limit = format!("--nofile={needed}:{needed}");
        assert_eq!(command, format!("sudo prlimit --pid $$ {limit}"));
        // It is enough.
        let found = check_under(["prlimit", &limit], flags)?;
        found.expect("open-files", "WARN", &["16384"])?;
        let found = check_under(["prlimit", "--nofile=1000:1000"], flags)?;
        let wanted = ["1000 may be open", "--max-flows 16384"];
        found.expect("open-files", "WARN", &wanted)?;
        let found = check_under(
            ["prlimit", "--nofile=1000:1000"],
            ["--max-connections", "900"],
        )?;
        let wanted = ["1000 may be open", "--max-connections 900"];
        found.expect("open-files", "WARN", &wanted)?;
        Ok(())
    })
}

#[test]
fn a_cpu_that_is_not_there() -> TestResult {
    isolated(|| {
        let found = check(["--cpus", "1023"])?;
        let row = found.expect("cpus", "FAIL", &["CPU 1023", "may not use"])?;
        let command = row["commands"][0].as_str().unwrap_or_default();
        let words: Vec<&str> = command.split(' ').collect();
        let ["glommproxy", "check", "--cpus", cpus, "…"] = words[..] else {
            return Err(format!("another command: {command}").into());
        };
        check(["--cpus", cpus])?.expect("cpus", "OK", &[])?;
        Ok(())
    })
}

#[test]
fn no_capability_to_spoof() -> TestResult {
    isolated(|| {
        let server = TcpServer::echo("127.0.0.1")?.to_string();
        let wrapper = ["setpriv", "--bounding-set", "-net_raw,-net_admin"];
        let found = check_under(wrapper, ["-4", &server, "-q"])?;
        let row = found.expect("capabilities", "FAIL", &["CAP_NET_RAW", "--cap-add"])?;
        let command = row["commands"][0].as_str().unwrap_or_default();
        assert!(
            command.starts_with("sudo setcap cap_net_admin,cap_net_raw+ep /"),
            "{command}"
        );
        found.expect("server-v4-tcp", "OK", &[])?;
        found.expect(
            "client-v4-tcp",
            "SKIP",
            &["may not take a client's address"],
        )?;
        Ok(())
    })
}

/// setcap(8) takes away what it does not name, so one command has all that is needed.
#[test]
fn no_capability_to_mark_and_a_port_for_the_privileged() -> TestResult {
    isolated(|| {
        let wrapper = ["setpriv", "--bounding-set", "-all"];
        let found = check_under(wrapper, ["-m", "5", "-l", "127.0.0.1:443"])?;
        let mut grants = Vec::new();
        for subject in ["capabilities", "listen-tcp"] {
            let row = found.expect(subject, "FAIL", &["CAP_NET_"])?;
            grants.push(row["commands"][0].as_str().unwrap_or_default());
        }
        let grant = "sudo setcap cap_net_admin,cap_net_raw,cap_net_bind_service+ep /";
        assert!(grants[0].starts_with(grant), "{grants:?}");
        assert_eq!(grants[0], grants[1]);
        Ok(())
    })
}

/// Either capability will do, and for a mark since Linux 5.17 too.
#[test]
fn one_capability_is_enough() -> TestResult {
    isolated(|| {
        for wanted in ["+net_raw", "+net_admin"] {
            let wrapper = ["setpriv", "--bounding-set", &format!("-all,{wanted}")];
            check_under(wrapper, [""; 0])?.expect("capabilities", "OK", &[])?;
        }
        let wrapper = ["setpriv", "--bounding-set", "-all,+net_admin"];
        check_under(wrapper, ["-m", "5"])?.expect("capabilities", "OK", &["mark packets"])?;
        Ok(())
    })
}
