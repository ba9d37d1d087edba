//! Connections that said something once, and are silent since.

use std::io::{Read, Write};
use std::thread;
use std::time::Duration;

use crate::harness::{Result, Run, Samples};
use crate::server::EchoServer;
use crate::stream::connect;

/// How long a proxy has to put things away.
const SETTLED: Duration = Duration::from_secs(1);

pub(crate) fn run(run: &Run<'_, EchoServer>, connections: usize) -> Result<Samples> {
    let proxy = run.via.proxy()?;
    let before = proxy.footprint();
    let connections = run.scaled(connections);
    let mut streams = Vec::new();
    for _ in 0..connections {
        let mut stream = connect(&run.via)?;
        stream.write_all(b"hi")?;
        streams.push(stream);
    }
    for stream in &mut streams {
        let mut answer = [0; 2];
        stream.read_exact(&mut answer)?;
        if &answer != b"hi" {
            return Err("a message came back changed".into());
        }
    }
    thread::sleep(SETTLED.min(run.measured));
    Ok(proxy.footprint().added_since(before, connections))
}
