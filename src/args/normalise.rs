//! Any accepted spelling, and the environment, turned into one value a flag.
//!
//! The rules are those of Go's `flag` package (`FlagSet.parseOne`): one dash or two, the value behind `=` or as the
//! next argument, switches without a value or with `=true`/`=false`, `--` or the first word that is no flag ends the
//! flags, and of a flag given twice the last one counts. Only lists differ from Go: all their values count.

use super::flags::{self, FLAGS, Flag, Takes};
use super::{ArgsError, Origin, Quoted, go_syntax};
use std::collections::BTreeMap;
use std::ffi::OsString;

/// What a command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Normalised {
    /// To run.
    Run(Settings),
    /// To print the help text.
    Help,
    /// To print the version.
    Version,
}

/// The flags given, and the words behind them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// Per flag, by its long name, the value and where it came from; a switch has the value `true` or `false`.
    pub(super) given: BTreeMap<&'static str, (Origin, String)>,
    /// The words that are no flags. go-mmproxy ignores them without a word.
    pub(super) ignored: Vec<String>,
}

/// The arguments behind the program's name as text.
pub(super) fn words(argv: impl IntoIterator<Item = OsString>) -> Result<Vec<String>, ArgsError> {
    let mut words = Vec::new();
    for (index, word) in argv.into_iter().enumerate() {
        words.push(
            word.into_string()
                .map_err(|word| ArgsError::ArgumentNotUnicode {
                    position: index + 1,
                    argument: Quoted(word.to_string_lossy().into_owned()),
                })?,
        );
    }
    Ok(words)
}

/// Reads arguments. What is read may have flags of its own beside the proxy's.
pub(super) fn arguments(
    words: impl Iterator<Item = String>,
    own: &'static [Flag],
) -> Result<Normalised, ArgsError> {
    let mut settings = Settings::default();
    let mut words = words.peekable();
    while let Some(word) = words.next_if(|word| is_flag(word)) {
        if word == "--" {
            settings.ignored = words.collect();
            refuse_flags_behind(&word, &settings.ignored)?;
            return Ok(Normalised::Run(settings));
        }
        let typed = Typed::split(&word)?;
        if flags::HELP.contains(&typed.name) {
            return Ok(Normalised::Help);
        }
        if flags::VERSION.contains(&typed.name) {
            return Ok(Normalised::Version);
        }
        let flag = flags::find(typed.name, own).ok_or_else(|| typed.unknown())?;
        let origin = Origin::Flag(typed.spelled());
        let value = match (typed.value, flag.takes) {
            (Some(value), _) => value.to_owned(),
            (None, Takes::Value | Takes::List) => next_value(&origin, words.next(), own)?,
            (None, Takes::ValueOr(text)) => match words.next_if(|next| !is_flag(next)) {
                Some(value) => value,
                None => text.to_owned(),
            },
            (None, Takes::Switch) => "true".to_owned(),
        };
        let mut value = checked(flag, &origin, value)?;
        if flag.takes == Takes::List
            && let Some((_, earlier)) = settings.given.get(flag.long)
        {
            value = format!("{earlier},{value}");
        }
        settings.given.insert(flag.long, (origin, value));
    }
    settings.ignored = words.collect();
    if let Some((word, rest)) = settings.ignored.split_first() {
        refuse_flags_behind(word, rest)?;
    }
    Ok(Normalised::Run(settings))
}

/// Fills what was not typed from the environment. An empty variable counts as unset.
pub(super) fn environment(
    settings: &mut Settings,
    own: &'static [Flag],
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<(), ArgsError> {
    for flag in FLAGS.iter().chain(own) {
        if settings.given.contains_key(flag.long) {
            continue;
        }
        let name = flag.variable();
        let Some(value) = variable(&name).filter(|value| !value.is_empty()) else {
            continue;
        };
        let value = value
            .into_string()
            .map_err(|value| ArgsError::VariableNotUnicode {
                name: name.clone(),
                value: Quoted(value.to_string_lossy().into_owned()),
            })?;
        let origin = Origin::Variable(name);
        let value = checked(flag, &origin, value)?;
        settings.given.insert(flag.long, (origin, value));
    }
    Ok(())
}

/// One argument that begins with a dash, taken apart.
struct Typed<'a> {
    dashes: &'a str,
    name: &'a str,
    value: Option<&'a str>,
}

// === impl Typed ===

impl<'a> Typed<'a> {
    fn split(word: &'a str) -> Result<Self, ArgsError> {
        let dash_count = if word.starts_with("--") { 2 } else { 1 };
        let (dashes, rest) = word.split_at(dash_count);
        if rest.starts_with(['-', '=']) {
            return Err(ArgsError::BadSyntax {
                argument: Quoted(word.to_owned()),
            });
        }
        let (name, value) = match rest.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (rest, None),
        };
        Ok(Self {
            dashes,
            name,
            value,
        })
    }

    fn spelled(&self) -> String {
        format!("{}{}", self.dashes, self.name)
    }

    fn unknown(&self) -> ArgsError {
        let advice = match flags::nearest(self.name) {
            Some(near) if near.len() == 1 => format!("did you mean -{near}?"),
            Some(near) => format!("did you mean {}{near}?", self.dashes),
            None => "--help lists the flags".to_owned(),
        };
        ArgsError::Unknown {
            flag: Quoted(self.spelled()),
            advice,
        }
    }
}

/// Whether Go would take a word for a flag. A lone dash is a word like any other.
fn is_flag(word: &str) -> bool {
    word.len() > 1 && word.starts_with('-')
}

/// The value that follows a flag which needs one.
///
/// Go takes whatever comes next. Here the name of another flag is not taken: `--allowed-subnets --mark 5` would look
/// for a list in the file `--mark`. A file of such a name can be written `./--mark`.
fn next_value(
    origin: &Origin,
    next: Option<String>,
    own: &'static [Flag],
) -> Result<String, ArgsError> {
    let Some(next) = next else {
        return Err(ArgsError::ValueMissing {
            origin: origin.clone(),
        });
    };
    let names_a_flag =
        is_flag(&next) && Typed::split(&next).is_ok_and(|typed| flags::is_known(typed.name, own));
    if names_a_flag {
        return Err(ArgsError::ValueIsFlag {
            origin: origin.clone(),
            next: Quoted(next),
        });
    }
    Ok(next)
}

/// Turns a switch's value into `true` or `false`, and lets other values be.
fn checked(flag: &Flag, origin: &Origin, value: String) -> Result<String, ArgsError> {
    match flag.takes {
        Takes::Value | Takes::List | Takes::ValueOr(_) => Ok(value),
        Takes::Switch => match go_syntax::boolean(&value) {
            Some(on) => Ok(on.to_string()),
            None => Err(ArgsError::NotABoolean {
                origin: origin.clone(),
                value: Quoted(value),
            }),
        },
    }
}

/// Refuses a flag among the words behind the one where go-mmproxy stops reading: a command line whose
/// `--allowed-subnets` is ignored opens the proxy to everybody.
fn refuse_flags_behind(word: &str, rest: &[String]) -> Result<(), ArgsError> {
    match rest.iter().find(|word| is_flag(word) && *word != "--") {
        Some(flag) => Err(ArgsError::FlagBehindWord {
            word: Quoted(word.to_owned()),
            flag: Quoted(flag.clone()),
        }),
        None => Ok(()),
    }
}
