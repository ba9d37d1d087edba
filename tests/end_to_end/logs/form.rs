//! Text or JSON.

use serde_json::Value;

use crate::harness::{Proxy, Screen};
use crate::namespace::{TestResult, isolated};

/// A start that fails after it has logged that there is no list.
const IN_VAIN: [&str; 2] = ["-l", "198.51.100.7:0"];

fn is_text(line: &Value) -> bool {
    let text = line.as_str().unwrap_or_default();
    text.contains("WARN") && text.contains("no --allowed-subnets")
}

fn is_json(line: &Value) -> bool {
    let message = line["message"].as_str().unwrap_or_default();
    line["level"] == "WARN" && message.starts_with("no --allowed-subnets")
}

#[test]
fn json_where_it_is_asked_for_or_no_terminal_is() -> TestResult {
    isolated(|| {
        for format in [&[][..], &["--log-format", "json"]] {
            let proxy = Proxy::builder().bare().args(IN_VAIN).args(format);
            let exit = proxy.start_in_vain()?;
            assert!(exit.log.iter().any(is_json), "{format:?}");
            assert!(exit.log.iter().all(Value::is_object), "{format:?}");
        }
        Ok(())
    })
}

#[test]
fn text_where_it_is_asked_for() -> TestResult {
    isolated(|| {
        let proxy = Proxy::builder()
            .bare()
            .args(IN_VAIN)
            .args(["--log-format", "text"]);
        let exit = proxy.start_in_vain()?;
        assert!(exit.log.iter().any(is_text));
        // Colours are for terminals.
        let no_colour = |line: &Value| line.as_str().is_some_and(|line| !line.contains('\x1B'));
        assert!(exit.log.iter().all(no_colour));
        Ok(())
    })
}

#[test]
fn text_on_a_terminal() -> TestResult {
    isolated(|| {
        let (terminal, screen) = Screen::of(24, 80)?;
        let mut process = Proxy::builder()
            .bare()
            .args(IN_VAIN)
            .command()
            .stdout(terminal)
            .spawn()?;
        let log = screen.read_to_end()?;
        process.wait()?;
        assert!(log.lines().any(|line| is_text(&line.into())), "{log}");
        assert!(log.contains('\x1B'), "in colour: {log}");
        Ok(())
    })
}
