//! Software that a test needs and a machine may not have.

use std::env;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::{Command, Output};

use crate::namespace::{TestResult, isolated};

/// A load balancer and web server.
pub(crate) const HAPROXY: Tool = Tool::program("haproxy", "haproxy");
/// A web server, and a load balancer with [`NGINX_STREAM`].
pub(crate) const NGINX: Tool = Tool::program("nginx", "nginx");
/// The module that nginx needs to pass on TCP.
pub(crate) const NGINX_STREAM: Tool = Tool {
    file: "ngx_stream_module.so",
    package: "libnginx-mod-stream",
    folders: || vec!["/usr/lib/nginx/modules".into()],
};
/// The packet filter's tool.
pub(crate) const NFT: Tool = Tool::program("nft", "nftables");
/// A load balancer for DNS.
pub(crate) const DNSDIST: Tool = Tool::program("dnsdist", "dnsdist");
/// A client of TLS, and a maker of certificates.
pub(crate) const OPENSSL: Tool = Tool::program("openssl", "openssl");

/// What shows a program another wall clock, threads included.
pub(crate) const FAKETIME: Tool = Tool {
    file: "libfaketimeMT.so.1",
    package: "faketime",
    folders: || vec![format!("/usr/lib/{}-linux-gnu/faketime", env::consts::ARCH).into()],
};

/// What scrapes metrics.
pub(crate) const PROMETHEUS: Tool = Tool::program("prometheus", "prometheus");

/// A file of somebody else's, and where it comes from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tool {
    file: &'static str,
    /// Debian's and Ubuntu's name of the package that has it.
    package: &'static str,
    /// Where it may be.
    folders: fn() -> Vec<PathBuf>,
}

/// Runs the closure in a namespace of its own, as [`isolated`] does, if the machine has all that the test needs.
/// Otherwise says on standard error what is missing, which is a failure in continuous integration (`CI=true`).
pub(crate) fn isolated_with<F: FnOnce() -> TestResult>(tools: &[Tool], body: F) -> TestResult {
    let Some(missing) = tools.iter().find(|tool| tool.path().is_none()) else {
        return isolated(body);
    };
    let Tool { file, package, .. } = missing;
    if env::var("CI").is_ok_and(|ci| ci == "true") {
        return Err(format!("{file} is missing: install {package} (or unset CI)").into());
    }
    let test = std::thread::current().name().unwrap_or("test").to_owned();
    // Not by `eprintln!`, whose words the test runner keeps to itself when a test passes.
    let words = format!("NOT TESTED: {test}: {file} is missing: install {package}\n");
    io::stderr().write_all(words.as_bytes())?;
    Ok(())
}

// === impl Tool ===

impl Tool {
    pub(crate) const fn program(file: &'static str, package: &'static str) -> Self {
        Self {
            file,
            package,
            folders: program_folders,
        }
    }

    /// Where it is on this machine.
    pub(crate) fn path(self) -> Option<PathBuf> {
        let folders = (self.folders)();
        let paths = folders.into_iter().map(|folder| folder.join(self.file));
        paths.into_iter().find(|path| path.is_file())
    }

    /// The same, for a test that has made sure of it by [`isolated_with`].
    #[track_caller]
    pub(crate) fn installed(self) -> TestResult<PathBuf> {
        let path = self.path();
        path.ok_or_else(|| format!("the test does not ask for {}", self.file).into())
    }
}

/// Servers are in `/usr/sbin`, where an ordinary user's path often does not lead.
fn program_folders() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let extra = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(extra).collect()
}

#[test]
fn a_missing_tool_is_named_and_fails_in_ci() -> TestResult {
    /// Set for the processes in which the tool is missing.
    const IS_CHILD: &str = "GLOMMPROXY_TEST_MISSING_TOOL";
    if env::var_os(IS_CHILD).is_some() {
        let missing = Tool::program("no-such-tool", "no-such-package");
        return isolated_with(&[missing], || Err("there is no such tool".into()));
    }
    let run = |ci: Option<&str>| -> TestResult<(bool, String)> {
        let mut command = Command::new(env::current_exe()?);
        command.args([
            "--exact",
            "tool::a_missing_tool_is_named_and_fails_in_ci",
            "--test-threads=1",
        ]);
        command.env(IS_CHILD, "1").env_remove("CI");
        command.envs(ci.map(|ci| ("CI", ci)));
        let Output {
            status,
            stdout,
            stderr,
        } = command.output()?;
        let said = [stdout, stderr].concat();
        Ok((
            status.success(),
            String::from_utf8_lossy(&said).into_owned(),
        ))
    };
    for (ci, passes) in [(None, true), (Some("true"), false)] {
        let (passed, said) = run(ci)?;
        assert_eq!(passed, passes, "CI={ci:?}: {said}");
        assert!(
            said.contains("no-such-tool is missing: install no-such-package"),
            "CI={ci:?}: {said}"
        );
    }
    Ok(())
}
