//! The lists that the coordinator keeps: which peers may speak for clients, which clients are turned away, and which
//! destinations PROXY headers may name.

use std::sync::Arc;

use futures_lite::future::or;
use tracing::{info, warn};

use super::RunError;
use super::list_file::{ListFile, Reloaded};
use super::shards::{Shards, ShardsError};
use crate::admin::NamedList;
use crate::config::Config;
use crate::shard::lists::InitialLists;
use crate::shard::readiness::Readiness;
use crate::subnets::SubnetSet;

/// The files that were named.
pub(super) struct ListFiles {
    allowed: Option<ListFile>,
    denied: Option<ListFile>,
    destinations: Option<ListFile>,
}

/// One of the lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Allowed,
    Denied,
    Destinations,
}

// === impl ListFiles ===

impl ListFiles {
    /// Loads the lists and begins to watch their files.
    pub(super) fn open(
        config: &Config,
        readiness: &Readiness,
    ) -> Result<(Self, InitialLists), RunError> {
        let (allowed_file, allowed) = open_allowed(config, readiness)?.unzip();
        let (denied_file, denied) = open_denied(config, readiness)?.unzip();
        let (destinations_file, destinations) = open_destinations(config, readiness)?.unzip();
        let files = Self {
            allowed: allowed_file,
            denied: denied_file,
            destinations: destinations_file,
        };
        let lists = InitialLists {
            allowed: allowed.map(Arc::new),
            denied: denied.map(Arc::new),
            destinations: destinations.map(Arc::new),
        };
        Ok((files, lists))
    }

    /// What is known of each.
    pub(super) fn named(&self) -> Vec<NamedList> {
        let files = [
            ("allowed-subnets", &self.allowed),
            ("denied-clients", &self.denied),
            ("allowed-destinations", &self.destinations),
        ];
        let named = files.into_iter().filter_map(|(name, file)| {
            let file = file.as_ref()?;
            Some(NamedList {
                name,
                path: file.path().display().to_string(),
                metrics: Arc::clone(file.metrics()),
            })
        });
        named.collect()
    }

    /// Waits until one of the files may have changed. May be dropped and called again at any time.
    pub(super) async fn changed(&mut self) -> Kind {
        async fn changed(file: &mut Option<ListFile>, kind: Kind) -> Kind {
            match file {
                Some(file) => file.changed().await,
                None => std::future::pending().await,
            }
            kind
        }
        or(
            changed(&mut self.allowed, Kind::Allowed),
            or(
                changed(&mut self.denied, Kind::Denied),
                changed(&mut self.destinations, Kind::Destinations),
            ),
        )
        .await
    }

    /// Reads a file again and tells the shards if it says something else.
    pub(super) async fn reload(
        &mut self,
        kind: Kind,
        shards: &mut Shards,
    ) -> Result<(), ShardsError> {
        let file = match kind {
            Kind::Allowed => &mut self.allowed,
            Kind::Denied => &mut self.denied,
            Kind::Destinations => &mut self.destinations,
        };
        match file {
            Some(file) => reload(file, kind, shards).await,
            None => Ok(()),
        }
    }

    /// Reads all files again, because somebody asked for it.
    pub(super) async fn reload_all(&mut self, shards: &mut Shards) -> Result<(), ShardsError> {
        let files = [&mut self.allowed, &mut self.denied, &mut self.destinations];
        for file in files.into_iter().flatten() {
            file.look_again();
        }
        for kind in [Kind::Allowed, Kind::Denied, Kind::Destinations] {
            self.reload(kind, shards).await?;
        }
        Ok(())
    }
}

fn open_allowed(
    config: &Config,
    readiness: &Readiness,
) -> Result<Option<(ListFile, SubnetSet)>, RunError> {
    let Some(path) = &config.allowed_subnets else {
        warn!(
            "no --allowed-subnets: everybody who reaches the listener can pose as any client; name your balancers' \
             subnets in a file"
        );
        if config.trust.loopback_clients {
            warn!(
                "--allow-loopback-clients without --allowed-subnets: everybody who reaches the listener can pose as this \
                 host itself"
            );
        }
        return Ok(None);
    };
    let (file, allowed) = ListFile::open(path, readiness)?;
    if allowed.is_empty() {
        warn!(path = %path.display(), "the list of allowed subnets is empty: nobody is allowed");
    } else {
        info!(path = %path.display(), subnets = allowed.len(), "allowed subnets loaded");
    }
    Ok(Some((file, allowed)))
}

fn open_denied(
    config: &Config,
    readiness: &Readiness,
) -> Result<Option<(ListFile, SubnetSet)>, RunError> {
    let Some(path) = &config.denied_clients else {
        return Ok(None);
    };
    let (file, denied) = ListFile::open(path, readiness).map_err(RunError::DeniedList)?;
    info!(path = %path.display(), subnets = denied.len(), "denied clients loaded");
    Ok(Some((file, denied)))
}

fn open_destinations(
    config: &Config,
    readiness: &Readiness,
) -> Result<Option<(ListFile, SubnetSet)>, RunError> {
    if !config.dynamic_destination {
        return Ok(None);
    }
    let Some(path) = &config.allowed_destinations else {
        info!(
            "no --allowed-destinations: PROXY headers may name this host's own addresses as destinations"
        );
        return Ok(None);
    };
    let (file, destinations) = ListFile::open(path, readiness).map_err(RunError::Destinations)?;
    if destinations.is_empty() {
        warn!(path = %path.display(), "the list of allowed destinations is empty: none is allowed");
    } else {
        info!(path = %path.display(), subnets = destinations.len(), "allowed destinations loaded");
    }
    Ok(Some((file, destinations)))
}

async fn reload(file: &mut ListFile, kind: Kind, shards: &mut Shards) -> Result<(), ShardsError> {
    let path = file.path().display().to_string();
    let list = match file.reload() {
        Reloaded::Unchanged => return Ok(()),
        Reloaded::Changed(list) => Arc::new(list),
        Reloaded::Failed(error) => {
            warn!(path, %error, "the old list of {} stays in force", kind.name());
            return Ok(());
        }
    };
    if list.is_empty() {
        let effect = kind.effect_when_empty();
        warn!(path, "the list of {} is empty now: {effect}", kind.name());
    }
    match kind {
        Kind::Allowed => shards.allow(&list).await?,
        Kind::Denied => shards.deny(&list).await?,
        Kind::Destinations => shards.allow_destinations(&list).await?,
    }
    info!(path, subnets = list.len(), "{} reloaded", kind.name());
    Ok(())
}

// === impl Kind ===

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Allowed => "allowed subnets",
            Self::Denied => "denied clients",
            Self::Destinations => "allowed destinations",
        }
    }

    fn effect_when_empty(self) -> &'static str {
        match self {
            Self::Allowed => "nobody is allowed",
            Self::Denied => "nobody is denied",
            Self::Destinations => "none is allowed",
        }
    }
}
