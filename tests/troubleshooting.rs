//! The README's table of messages and what to do about them: the program's source has to print each of them.

use std::error::Error;
use std::fs;
use std::iter::Peekable;
use std::path::Path;
use std::str::Chars;

type TestResult<T = ()> = Result<T, Box<dyn Error>>;

const HEAD: &str = "| message | means | do |";

/// Fewer of them, and the table is not what it was.
const MESSAGES_MIN: usize = 25;

#[test]
fn every_message_of_the_table_is_printed() -> TestResult {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let messages = messages(&fs::read_to_string(root.join("README.md"))?)?;
    assert!(messages.len() >= MESSAGES_MIN, "{messages:?}");
    let mut literals = Vec::new();
    read_sources(&root.join("src"), &mut literals)?;
    let missing: Vec<_> = messages
        .iter()
        .filter(|message| !literals.iter().any(|literal| prints(literal, message)))
        .collect();
    assert!(missing.is_empty(), "nothing prints {missing:#?}");
    Ok(())
}

/// The messages in the first column.
fn messages(readme: &str) -> TestResult<Vec<String>> {
    let (_, table) = readme.split_once(HEAD).ok_or("no table")?;
    let rows = table
        .lines()
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let mut messages = Vec::new();
    for row in rows {
        // It says when the messages below it come.
        if row.starts_with("| **") {
            continue;
        }
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [message, means, advice] = cells[..] else {
            return Err(format!("three cells, but not in {row}").into());
        };
        assert!(!means.is_empty() && !advice.is_empty(), "{row}");
        let parts: Vec<_> = message.split('`').collect();
        assert!(parts.len() >= 3 && parts.len() % 2 == 1, "{row}");
        messages.extend(parts.iter().skip(1).step_by(2).map(|&it| it.to_owned()));
    }
    Ok(messages)
}

/// Whether what a literal is the format of can read like this message, where … stands for anything.
fn prints(literal: &str, message: &str) -> bool {
    let mut rest = literal;
    let parts: Vec<_> = message.split('…').map(str::trim).collect();
    if !message.starts_with('…') && !literal.starts_with(parts[0]) {
        return false;
    }
    if !message.ends_with('…') && !parts.last().is_some_and(|last| literal.ends_with(last)) {
        return false;
    }
    parts.iter().all(|part| match rest.find(part) {
        Some(at) => {
            rest = &rest[at + part.len()..];
            true
        }
        None => false,
    })
}

/// The string literals of the program itself, not of its tests.
fn read_sources(folder: &Path, literals: &mut Vec<String>) -> TestResult {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_stem().is_some_and(|stem| stem == "tests") {
            continue;
        }
        if path.is_dir() {
            read_sources(&path, literals)?;
        } else if path.extension().is_some_and(|it| it == "rs") {
            let source = fs::read_to_string(&path)?;
            let program = source.split("#[cfg(test)]\nmod tests {").next();
            read_literals(program.unwrap_or_default(), literals);
        }
    }
    Ok(())
}

fn read_literals(source: &str, literals: &mut Vec<String>) {
    let mut rest = source.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '/' if rest.peek() == Some(&'/') => while rest.next().is_some_and(|c| c != '\n') {},
            '\'' => skip_char(&mut rest),
            '"' => literals.push(literal(&mut rest)),
            _ => {}
        }
    }
}

/// Passes over a character in quotes, which may be a double quote; a lifetime has no second one.
fn skip_char(rest: &mut Peekable<Chars<'_>>) {
    let mut ahead = rest.clone();
    let is_escaped = ahead.next() == Some('\\');
    if is_escaped {
        ahead.next();
    }
    if is_escaped || ahead.peek() == Some(&'\'') {
        while rest.next_if(|&c| c != '\'').is_some() {}
        rest.next();
    }
}

/// The rest of a literal, on one line as the compiler joins it.
fn literal(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut text = String::new();
    while let Some(c) = rest.next() {
        match (c, c == '\\' && rest.peek().is_some()) {
            ('"', _) => break,
            (_, true) => match rest.next() {
                Some('\n') => while rest.next_if(|c| c.is_whitespace()).is_some() {},
                Some('n') => text.push('\n'),
                Some(escaped) => text.push(escaped),
                None => {}
            },
            _ => text.push(c),
        }
    }
    text
}

#[test]
fn literals_are_read_as_the_compiler_reads_them() {
    let source = r#"
        // "a comment"
        let lifetime: &'static str = "one \"word\"";
        let quote = ['"', '\'', '\\'];
        warn!("cannot do {it} \
               in two lines");
    "#;
    let mut literals = Vec::new();
    read_literals(source, &mut literals);
    assert_eq!(literals, ["one \"word\"", "cannot do {it} in two lines"]);
    for (message, wanted) in [
        ("cannot do … in two lines", true),
        ("cannot do …", true),
        ("… in two …", true),
        ("cannot do", false),
        ("do … lines", false),
        ("cannot … undo …", false),
    ] {
        assert_eq!(prints(&literals[1], message), wanted, "{message}");
    }
}
