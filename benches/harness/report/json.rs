//! Every sample, for programs.

use serde_json::{Map, Value, json};

use crate::harness::Result;
use crate::harness::results::{Cell, Results};

pub(super) fn json(results: &Results) -> Result<String> {
    let machine = &results.machine;
    let candidates = results.candidates.iter();
    let commands = candidates.map(|candidate| (candidate.name.clone(), candidate.shown().into()));
    let workloads = results.rows.iter().map(|row| {
        let cells = results.candidates.iter().zip(&row.cells);
        let cells = cells.map(|(candidate, cell)| (candidate.name.clone(), samples(cell)));
        json!({
            "name": row.name,
            "title": row.title,
            "candidates": cells.collect::<Map<String, Value>>(),
        })
    });
    let value = json!({
        "bench": results.name,
        "command": results.command,
        "date": machine.date,
        "commit": machine.commit,
        "kernel": machine.kernel,
        "cpu": machine.cpu,
        "cpus": machine.cpus,
        "open_files": machine.open_files,
        "congestion_control": machine.congestion_control,
        "user": machine.user,
        "rounds": results.rounds,
        "seconds": results.seconds,
        "header": format!("{:?}", results.header),
        "commands": commands.collect::<Map<String, Value>>(),
        "workloads": workloads.collect::<Vec<Value>>(),
    });
    Ok(serde_json::to_string_pretty(&value)? + "\n")
}

fn samples(cell: &Cell) -> Value {
    let mut object = Map::new();
    for (metric, values) in &cell.samples {
        object.insert(metric.name().to_owned(), json!(values));
    }
    if !cell.failures.is_empty() {
        object.insert("failures".to_owned(), json!(cell.failures));
    }
    Value::Object(object)
}
