//! Whether a server is the proxy itself.

use super::{Row, Verdict, is_afterthought, number};
use crate::addr::own_listener;
use crate::config::Config;
use crate::coordinator::Resolved;
use crate::routing::Family;

/// A row for each family for which it is.
pub(super) fn rows(config: &Config, resolved: &Resolved) -> Vec<Row> {
    [Family::V4, Family::V6]
        .into_iter()
        .filter_map(|family| row(config, resolved, family))
        .collect()
}

fn row(config: &Config, resolved: &Resolved, family: Family) -> Option<Row> {
    let server = own_listener(&resolved.frontends, |targets| match family {
        Family::V4 => targets.v4.into(),
        Family::V6 => targets.v6.into(),
    })?;
    let number = number(family);
    let verdict = if is_afterthought(config, family) {
        Verdict::Warn
    } else {
        Verdict::Fail
    };
    let finding = format!(
        "{server} is where the proxy itself would listen (-l), and drop what it is sent: name the server's own address, \
         or another port to listen on"
    );
    let nobody = match family {
        Family::V4 => "127.0.0.1:0",
        Family::V6 => "[::1]:0",
    };
    let commands = vec![format!("glommproxy check -{number} {nobody} …")];
    Some(Row::new(&format!("itself-v{number}"), verdict, finding).mended_by(commands))
}
