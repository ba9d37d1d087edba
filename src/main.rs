//! The `glommproxy` program.

use std::env;
use std::io::{self, Write};
use std::process::ExitCode;

use glommproxy::args::{self, UnknownVariable};
use glommproxy::config::{self, Config, Startup};
use glommproxy::coordinator::Inherited;
use glommproxy::sandbox::Sandbox;
use glommproxy::{capabilities, check, coordinator, demo, logging, panics, systemd, top};

fn main() -> ExitCode {
    capabilities::take_permitted();
    // Before anything else is opened.
    let sockets = match systemd::sockets() {
        Ok(sockets) => sockets,
        Err(error) => return fail(&error),
    };
    let variable = |name: &str| systemd::variable(name, &sockets, |name| env::var_os(name));
    match config::load(env::args_os().skip(1), variable) {
        Ok(Startup::Run(config)) => run(&config, sockets),
        Ok(Startup::Check { config, json }) => look(&config, json),
        Ok(Startup::AskReady(admin)) => match check::ask_ready(admin) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
        Ok(Startup::Demo) => show(),
        Ok(Startup::Top { admin, once }) => match top::run(admin, once) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error),
        },
        Ok(Startup::Print(text)) => print(&text),
        Err(error) => fail(&error),
    }
}

fn run(config: &Config, sockets: Inherited) -> ExitCode {
    let sandbox = Sandbox::enter(config);
    let log = sandbox.aside(|| logging::init(config.log_format, config.verbosity));
    panics::install();
    if !config.ignored.is_empty() {
        tracing::warn!(words = ?config.ignored, "these words mean nothing, here as in go-mmproxy");
    }
    for UnknownVariable { name, advice } in unknown_variables() {
        tracing::warn!(variable = %name, "this variable means nothing: {advice}");
    }
    let result = coordinator::run(config, sockets, sandbox);
    drop(log);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn look(config: &Config, json: bool) -> ExitCode {
    for UnknownVariable { name, advice } in unknown_variables() {
        let _ = writeln!(io::stderr(), "the variable {name} means nothing: {advice}");
    }
    let report = check::look(config);
    let printed = print(&if json { report.json() } else { report.text() });
    if report.ok() {
        printed
    } else {
        ExitCode::FAILURE
    }
}

/// Variables that were meant for us, perhaps.
fn unknown_variables() -> Vec<UnknownVariable> {
    args::unknown_variables(env::vars_os().map(|(name, _)| name))
}

fn show() -> ExitCode {
    match demo::run() {
        Ok(shown) if shown.all_agree() => print(&shown.to_string()),
        Ok(shown) => {
            print(&shown.to_string());
            ExitCode::FAILURE
        }
        Err(error) => fail(&error),
    }
}

fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn fail(error: &dyn std::error::Error) -> ExitCode {
    // If stderr is closed there is nobody to tell.
    let _ = writeln!(io::stderr(), "glommproxy: {error}");
    ExitCode::FAILURE
}
