//! What must hold for any words at all.

use super::*;
use proptest::prelude::*;
use std::os::unix::ffi::OsStringExt;

/// Words that come near to what the reader knows, and some that do not.
fn word() -> impl Strategy<Value = String> {
    let names: Vec<&'static str> = args::flags::FLAGS
        .iter()
        .flat_map(|flag| flag.others.iter().chain([&flag.long]))
        .copied()
        .collect();
    let value = prop_oneof![
        Just("127.0.0.1:80".to_owned()),
        Just("[fe80::1%lo]:80".to_owned()),
        "127.0.0.1:[0-9]{1,5}-[0-9]{1,5}(,\\[::1\\]:[0-9]{1,5}-[0-9]{1,5}){0,2}",
        "[0-9a-fxob_+.-]{0,12}",
        "[0-9]{1,3}(-[0-9]{1,4})?(,[0-9]{1,4}){0,3}",
        "[\\[\\]0-9a-f:.%]{0,20}",
        any::<String>(),
    ];
    prop_oneof![
        (
            prop_oneof!["-", "--", "---"],
            prop::sample::select(names),
            prop::option::of(value.clone())
        )
            .prop_map(|(dashes, name, value)| match value {
                Some(value) => format!("{dashes}{name}={value}"),
                None => format!("{dashes}{name}"),
            }),
        value,
    ]
}

proptest! {
    #[test]
    fn no_words_panic_and_all_messages_are_one_line(
        line in prop::collection::vec(word(), 0..6),
        environment in prop::option::of(any::<String>()),
    ) {
        let argv = line.iter().map(OsString::from);
        if let Err(error) = load(argv, |_| environment.clone().map(OsString::from)) {
            let message = error.to_string();
            prop_assert!(!message.contains(char::is_control), "{:?}", message);
            prop_assert!(message.len() < 1200, "{:?}", message);
        }
    }

    #[test]
    fn no_bytes_panic(line in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..4)) {
        let _ = load(line.into_iter().map(OsString::from_vec), |_| None);
    }
}
