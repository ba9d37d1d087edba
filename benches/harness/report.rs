//! Results for people, programs and eyes.

mod json;
mod markdown;
mod plot;

use std::fs;
use std::path::Path;

use super::Result;
use super::results::Results;

pub(crate) use markdown::markdown;

/// Writes `NAME.md`, `NAME.json` and `NAME.svg` into a folder, which is made if there is none.
pub(crate) fn write(results: &Results, folder: &Path) -> Result {
    let context = |error| format!("--out {}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(context)?;
    for (ending, text) in [
        ("md", markdown(results)),
        ("json", json::json(results)?),
        ("svg", plot::svg(results)),
    ] {
        let file = folder.join(format!("{}.{ending}", results.name));
        fs::write(&file, text).map_err(|error| format!("{}: {error}", file.display()))?;
    }
    Ok(())
}

/// A ratio as tables and plots show it.
fn times(ratio: f64) -> String {
    if ratio >= 10.0 {
        return format!("{ratio:.0}×");
    }
    format!("{ratio:.2}×")
}
