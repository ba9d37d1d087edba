//! Why a command line cannot be read.

use super::{Origin, Quoted};

/// Why a command line cannot be read. The message is one line, with foreign text escaped and shortened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ArgsError {
    /// An argument holds bytes that are not UTF-8.
    #[error("argument {position} is not UTF-8: {argument}: write it in ASCII or UTF-8")]
    ArgumentNotUnicode {
        /// The argument's place behind the program's name, from 1.
        position: usize,
        /// The argument, with what is not UTF-8 replaced.
        argument: Quoted,
    },
    /// An environment variable holds bytes that are not UTF-8.
    #[error("{name} is not UTF-8: {value}: write it in ASCII or UTF-8")]
    VariableNotUnicode {
        /// The variable's name.
        name: String,
        /// The value, with what is not UTF-8 replaced.
        value: Quoted,
    },
    /// An argument begins like a flag but has no name.
    #[error("bad flag syntax: {argument}: write -flag value or -flag=value")]
    BadSyntax {
        /// The argument.
        argument: Quoted,
    },
    /// No flag of this name exists.
    #[error("unknown flag {flag}: {advice}")]
    Unknown {
        /// The flag as it was typed.
        flag: Quoted,
        /// What to do.
        advice: String,
    },
    /// A flag that needs a value is the last argument.
    #[error("{origin} needs a value, but nothing follows it: write {origin}=VALUE")]
    ValueMissing {
        /// The flag.
        origin: Origin,
    },
    /// A flag that needs a value is followed by a flag.
    #[error("{origin} needs a value, but the flag {next} follows it: write {origin}=VALUE")]
    ValueIsFlag {
        /// The flag that needs a value.
        origin: Origin,
        /// The flag that follows.
        next: Quoted,
    },
    /// A switch has a value that is neither true nor false.
    #[error("{origin} {value} is neither true nor false")]
    NotABoolean {
        /// The switch.
        origin: Origin,
        /// Its value.
        value: Quoted,
    },
    /// A flag stands behind a word that ends the flags.
    #[error(
        "{word} ends the flags, so go-mmproxy would ignore the flag {flag} behind it: remove {word} or move it last"
    )]
    FlagBehindWord {
        /// The word that is no flag.
        word: Quoted,
        /// The first flag behind it.
        flag: Quoted,
    },
    /// The first word is nearly a subcommand.
    #[error("there is no command {word}: did you mean {meant}?")]
    NoSubcommand {
        /// The word.
        word: Quoted,
        /// The subcommand.
        meant: &'static str,
    },
    /// A subcommand stands behind flags or other words.
    #[error("{word} must be the first word: glommproxy {word}, and the flags behind it")]
    SubcommandNotFirst {
        /// The subcommand.
        word: String,
    },
    /// `check --live` was not told whom to ask.
    #[error(
        "{origin} asks the admin address of the running proxy: name it with --admin ADDR or GLOMMPROXY_ADMIN"
    )]
    AdminMissing {
        /// The switch.
        origin: Origin,
    },
    /// `check --live` prints no JSON.
    #[error(
        "{json} contradicts {live}, which prints nothing but a line if it fails: remove one of them"
    )]
    JsonOfLive {
        /// The one switch.
        json: Origin,
        /// The other.
        live: Origin,
    },
    /// `demo` was given something.
    #[error("demo takes no arguments: remove {argument}")]
    DemoArgument {
        /// The first argument.
        argument: Quoted,
    },
    /// `top` was given something that it does not understand.
    #[error("top: {argument} is not understood: see glommproxy top --help")]
    TopArgument {
        /// The first such argument.
        argument: Quoted,
    },
    /// The arguments in their normal form were refused.
    #[error("{0}")]
    Refused(Quoted),
}
