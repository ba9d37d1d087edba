//! Which files the process may open: Landlock (landlock(7)).
//!
//! Rules are for folders, as a list is replaced by a new file, and for good: what is forbidden stays forbidden.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, LandlockStatus, PathBeneath, PathFd, RestrictionStatus,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
};

use super::names_are_looked_up;
use crate::access_log::Destination;
use crate::config::Config;

/// What is forbidden unless a rule allows it: all that this version knows about files. Later ones forbid things that are
/// needed, such as systemd's socket.
const HANDLED: ABI = ABI::V5;

/// Links that are followed, as many as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// What is read at the start, or for the metrics: this process, the CPUs, and whether io_uring is switched off. The kernel
/// may forget these files, and with them the rules, unless they are open.
const ALWAYS: [&str; 3] = [
    "/proc/self",
    "/proc/sys/kernel/io_uring_disabled",
    "/sys/devices/system",
];

/// This program: a panic tells where it was.
const ITSELF: &str = "/proc/self/exe";

/// What looking up a name may read: the files of resolver and name service, where they lead to, and its modules.
const NAME_SERVICE: [&str; 6] = [
    "/etc/hosts",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/hostname",
];
const LIBRARIES: [&str; 5] = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib"];

/// What is in force.
#[derive(Debug, Default)]
pub(super) struct Files {
    /// The version of the kernel's interface; None if it has none, or not for us.
    pub(super) abi: Option<i32>,
    /// What has to stay open.
    _pinned: Vec<PathFd>,
}

/// What may be done to files below a path.
#[derive(Debug, PartialEq, Eq)]
struct Rule {
    path: PathBuf,
    allows: BitFlags<AccessFs>,
}

/// Restricts this thread, and those it starts.
///
/// # Errors
///
/// If the kernel has Landlock and does not take the rules.
pub(super) fn restrict(config: &Config) -> Result<Files, RulesetError> {
    let mut rules = Ruleset::default()
        .handle_access(AccessFs::from_all(HANDLED))?
        // To nobody else: the process sends none but to itself.
        .scope(Scope::Signal)?
        .create()?;
    let mut pinned = Vec::new();
    for path in ALWAYS {
        if let Ok(file) = PathFd::new(path) {
            let allows = AccessFs::ReadFile | AccessFs::ReadDir;
            add(&mut rules, &file, allows)?;
            pinned.push(file);
        }
    }
    for Rule { path, allows } in rules_for(config) {
        // What is not there cannot be allowed, and will be missed when it is opened. Pipes need no rule and take none.
        if let Ok(file) = PathFd::new(&path) {
            let _ = add(&mut rules, &file, allows);
        }
    }
    let RestrictionStatus { landlock, .. } = rules.restrict_self()?;
    Ok(Files {
        abi: version(landlock),
        _pinned: pinned,
    })
}

fn add(
    rules: &mut landlock::RulesetCreated,
    file: &PathFd,
    allows: BitFlags<AccessFs>,
) -> Result<(), RulesetError> {
    // A file has no entries. (The crate would leave it out, too, but takes that for a kernel that lacks something.)
    let is_folder = rustix::fs::fstat(file.as_fd())
        .is_ok_and(|it| rustix::fs::FileType::from_raw_mode(it.st_mode).is_dir());
    let allows = if is_folder {
        allows
    } else {
        allows & AccessFs::from_file(HANDLED)
    };
    rules.add_rule(PathBeneath::new(file, allows)).map(|_| ())
}

fn version(status: LandlockStatus) -> Option<i32> {
    match status {
        LandlockStatus::Available {
            effective_abi,
            kernel_abi,
        } => Some(kernel_abi.unwrap_or(effective_abi as i32)),
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => None,
    }
}

fn rules_for(config: &Config) -> Vec<Rule> {
    let mut rules = vec![Rule::new(ITSELF, AccessFs::ReadFile)];
    let lists = [
        &config.allowed_subnets,
        &config.denied_clients,
        &config.allowed_destinations,
    ];
    for list in lists.into_iter().flatten() {
        let folders = folders_of_list(list).into_iter();
        rules.extend(folders.map(|it| Rule::new(it, AccessFs::ReadFile)));
        // For the complaint that it is a folder itself.
        rules.push(Rule::new(list, AccessFs::ReadFile | AccessFs::ReadDir));
    }
    if let Some(Destination::File(log)) = &config.access_log {
        rules.extend(rules_for_log(log));
    }
    if names_are_looked_up(config) {
        let files = NAME_SERVICE.iter().flat_map(|it| folders(Path::new(it)));
        let libraries = LIBRARIES.map(PathBuf::from);
        rules.extend(
            files
                .chain(libraries)
                .map(|it| Rule::new(it, AccessFs::ReadFile)),
        );
    }
    rules
}

/// Where a list may be: as [`folders`], and in a folder that takes the place of its own, unless that would let it be
/// anywhere.
fn folders_of_list(list: &Path) -> Vec<PathBuf> {
    let mut folders = folders(list);
    let path = absolute(list);
    let above = path.parent().and_then(Path::parent);
    folders.extend(above.filter(|it| is_below_the_top(it)).map(Path::to_owned));
    folders
}

/// A file is made again when it was renamed. Anything else, a terminal or a pipe, is opened as it is.
fn rules_for_log(log: &Path) -> Vec<Rule> {
    let is_file = std::fs::metadata(log).map_or(true, |it| it.is_file());
    if is_file {
        let allows = AccessFs::WriteFile | AccessFs::MakeReg;
        let folders = folders(log).into_iter();
        folders.map(|it| Rule::new(it, allows)).collect()
    } else {
        vec![Rule::new(log, AccessFs::WriteFile)]
    }
}

/// The folder of a file, the one it is in if links lead to it, and those that the links lead into.
fn folders(file: &Path) -> Vec<PathBuf> {
    let file = absolute(file);
    let real = file.canonicalize();
    let mut folders: Vec<PathBuf> = [Some(&file), real.as_ref().ok()]
        .into_iter()
        .flatten()
        .filter_map(|path| path.parent().map(Path::to_owned))
        .collect();
    let mut paths = vec![file];
    let mut seen = 0;
    while let Some(path) = paths.pop() {
        seen += 1;
        if seen > LINKS_MAX {
            break;
        }
        for ancestor in path.ancestors() {
            let Ok(target) = std::fs::read_link(ancestor) else {
                continue;
            };
            let Some(folder) = ancestor.parent() else {
                continue;
            };
            let target = folder.join(target);
            // Links there (of a merged /usr, /var/run) are the system's, and stay.
            let into = target.parent().filter(|it| is_below_the_top(it));
            folders.extend(into.map(Path::to_owned));
            paths.push(target);
        }
    }
    folders.sort();
    folders.dedup();
    folders
}

fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_: io::Error| path.to_owned())
}

/// Whether this is neither the root nor one of its folders.
fn is_below_the_top(folder: &Path) -> bool {
    folder.ancestors().count() > 2
}

// === impl Rule ===

impl Rule {
    fn new(path: impl Into<PathBuf>, allows: impl Into<BitFlags<AccessFs>>) -> Self {
        Self {
            path: path.into(),
            allows: allows.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn a_list_may_be_replaced_and_so_may_its_folder_and_links() {
        let scratch = tempfile::tempdir().expect("a folder");
        let top = scratch.path().canonicalize().expect("a folder");
        let at = |path: &str| top.join(path);
        for folder in ["lists/..2026_01", "releases/17", "plain"] {
            fs::create_dir_all(at(folder)).expect("folders");
        }
        fs::write(at("lists/..2026_01/list"), "").expect("a file");
        fs::write(at("releases/17/list"), "").expect("a file");
        fs::write(at("plain/list"), "").expect("a file");
        symlink("..2026_01", at("lists/..data")).expect("a link");
        symlink("..data/list", at("lists/list")).expect("a link");
        symlink(at("releases/17"), at("current")).expect("a link");
        for (list, wanted) in [
            ("plain/list", vec!["", "plain"]),
            (
                "lists/list",
                vec!["", "lists", "lists/..2026_01", "lists/..data"],
            ),
            (
                "current/list",
                vec!["", "current", "releases", "releases/17"],
            ),
        ] {
            let mut found = folders_of_list(&at(list));
            found.sort();
            found.dedup();
            let mut wanted: Vec<PathBuf> = wanted.into_iter().map(|it| top.join(it)).collect();
            // `join` of nothing adds a slash.
            wanted[0].clone_from(&top);
            assert_eq!(found, wanted, "{list}");
        }
    }

    #[test]
    fn the_top_of_the_file_system_is_not_opened_for_a_list_below_it() {
        let folders = |list: &str| folders_of_list(Path::new(list));
        assert_eq!(
            folders("/nowhere/glommproxy/list"),
            [Path::new("/nowhere/glommproxy")]
        );
        assert_eq!(folders("/nowhere/list"), [Path::new("/nowhere")]);
    }
}
