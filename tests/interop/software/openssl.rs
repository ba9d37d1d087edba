//! OpenSSL's tool: certificates, and a client that speaks TLS.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use super::process::{Process, Workplace};
use crate::namespace::TestResult;
use crate::tool::OPENSSL;

/// A certificate signed by itself, with its key.
pub(crate) struct Certificate {
    workplace: Workplace,
}

/// A client that stays connected until it is dropped.
pub(crate) struct TlsClient {
    _process: Process,
}

// === impl Certificate ===

impl Certificate {
    /// A new one for this common name.
    #[track_caller]
    pub(crate) fn new(common_name: &str) -> TestResult<Self> {
        let workplace = Workplace::new()?;
        let made = Command::new(OPENSSL.installed()?)
            .args(["req", "-x509", "-nodes", "-days", "2"])
            .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-subj", &format!("/CN={common_name}")])
            .args(["-keyout", "pem", "-out", "certificate"])
            .current_dir(workplace.folder())
            .output()?;
        if !made.status.success() {
            let said = String::from_utf8_lossy(&made.stderr);
            return Err(format!("openssl makes no certificate: {said}").into());
        }
        // HAProxy wants both in one file.
        let (key, certificate) = (workplace.path("pem"), workplace.path("certificate"));
        let both = [std::fs::read(&key)?, std::fs::read(&certificate)?].concat();
        std::fs::write(&key, both)?;
        Ok(Self { workplace })
    }

    /// The file with the certificate alone.
    pub(crate) fn file(&self) -> PathBuf {
        self.workplace.path("certificate")
    }

    /// The file with the key and the certificate.
    pub(crate) fn file_with_key(&self) -> PathBuf {
        self.workplace.path("pem")
    }
}

// === impl TlsClient ===

impl TlsClient {
    /// Connects, and asks for a host name and an application protocol. It shows a certificate if it has one.
    #[track_caller]
    pub(crate) fn connect(
        addr: SocketAddr,
        host_name: &str,
        alpn: &str,
        certificate: Option<&Certificate>,
    ) -> TestResult<Self> {
        // Quiet, it does not end with its standard input.
        let mut args = ["s_client", "-quiet", "-connect", &addr.to_string()]
            .map(str::to_owned)
            .to_vec();
        args.extend(["-servername", host_name, "-alpn", alpn].map(str::to_owned));
        if let Some(certificate) = certificate {
            let file = certificate.file_with_key().display().to_string();
            args.extend(["-cert", &file, "-key", &file].map(str::to_owned));
        }
        let process = Process::start(OPENSSL, Workplace::new()?, args)?;
        Ok(Self { _process: process })
    }
}
