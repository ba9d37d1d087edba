//! The list of destinations that PROXY headers may name.

use std::sync::Arc;

use tracing::{info, warn};

use super::RunError;
use super::list_file::{ListFile, Reloaded};
use super::shards::Shards;
use crate::config::Config;
use crate::shard::readiness::Readiness;
use crate::subnets::SubnetSet;

/// Loads the list, if there is one, and says which destinations may be named.
pub(super) fn load(
    config: &Config,
    readiness: &Readiness,
) -> Result<(Option<ListFile>, Option<Arc<SubnetSet>>), RunError> {
    if !config.dynamic_destination {
        return Ok((None, None));
    }
    let Some(path) = &config.allowed_destinations else {
        info!(
            "no --allowed-destinations: PROXY headers may name this host's own addresses as destinations"
        );
        return Ok((None, None));
    };
    let (file, destinations) = ListFile::open(path, readiness).map_err(RunError::Destinations)?;
    let path = path.display();
    if destinations.is_empty() {
        warn!(%path, "the list of allowed destinations is empty: none is allowed");
    } else {
        info!(%path, subnets = destinations.len(), "allowed destinations loaded");
    }
    Ok((Some(file), Some(Arc::new(destinations))))
}

/// Puts the list in force if it has changed.
pub(super) async fn reload(list: &mut ListFile, shards: &mut Shards) -> Result<(), RunError> {
    let path = list.path().display().to_string();
    match list.reload() {
        Reloaded::Unchanged => {}
        Reloaded::Changed(destinations) => {
            let subnets = destinations.len();
            if destinations.is_empty() {
                warn!(
                    path,
                    "the list of allowed destinations is empty now: none is allowed"
                );
            }
            shards.allow_destinations(&Arc::new(destinations)).await?;
            info!(path, subnets, "allowed destinations reloaded");
        }
        Reloaded::Failed(error) => {
            warn!(path, %error, "the old list of allowed destinations stays in force")
        }
    }
    Ok(())
}
