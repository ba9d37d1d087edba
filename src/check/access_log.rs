//! Whether the access log can be written.

use std::io::ErrorKind;
use std::path::Path;

use super::commands::quoted_path;
use super::{Row, Verdict};
use crate::access_log::{self, Destination, Found};
use crate::config::Config;

/// A row if it is to be a file.
pub(super) fn row(config: &Config) -> Option<Row> {
    let Some(Destination::File(path)) = &config.access_log else {
        return None;
    };
    let subject = "access-log";
    let shown = path.display();
    Some(match access_log::probe(path) {
        Ok(Found::File) => Row::new(
            subject,
            Verdict::Ok,
            format!("{shown}: lines can be added to it"),
        ),
        Ok(Found::Nothing) => Row::new(subject, Verdict::Ok, format!("{shown}: it can be made")),
        Ok(Found::Pipe) => {
            let finding = format!(
                "{shown}: a pipe, which has to have a reader when the proxy starts; whether it has is not looked at"
            );
            Row::new(subject, Verdict::Skip, finding)
        }
        Err(error) => {
            let commands = commands(path, error.kind());
            Row::new(subject, Verdict::Fail, error).mended_by(commands)
        }
    })
}

fn commands(path: &Path, reason: ErrorKind) -> Vec<String> {
    let file = quoted_path(path);
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = quoted_path(folder.unwrap_or(Path::new(".")));
    match reason {
        ErrorKind::NotFound => vec![format!("mkdir -p {folder}")],
        // The folder may be the system's, as /var/log is; the file is ours.
        ErrorKind::PermissionDenied => vec![
            format!("sudo touch {file}"),
            format!("sudo chown \"$(id -un)\" {file}"),
        ],
        ErrorKind::IsADirectory => {
            let inside = quoted_path(&path.join("access.log"));
            vec![format!("glommproxy check --access-log {inside} …")]
        }
        ErrorKind::ReadOnlyFilesystem => vec![format!("findmnt -T {folder}")],
        _ => vec![format!("ls -ld {folder} {file}")],
    }
}
