//! What an interruption of the harness ends. A program of its own, since it ends all adapters.

#![cfg(unix)]

mod processes;

use goldstep_conformance::protocol::{Adapter, AdapterCommand, end_adapters};

use processes::is_gone;

#[test]
fn every_adapter_ends_with_what_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("processes");
    let start = r#"{"implementation":{"name":"sh","version":"1","language":"sh","source":"here"},"capabilities":{"dtypes":[],"arguments":[],"schedules":[],"sparse":false,"ema":false,"constraints":false,"exclude":false,"set_learning_rate":false,"finalize":false,"states":[],"set_state":false,"intermediates":[],"base64":false,"expectation":"goldstep"}}"#;
    // Deaf to the end of its input, as a program that hangs.
    let script =
        format!("read -r line; sleep 600 & echo $$ $! >> {}; echo '{start}'; wait", file.display());
    let command = AdapterCommand::new("sh").argument("-c").argument(script);
    let adapters = [Adapter::start(&command).unwrap(), Adapter::start(&command).unwrap()];
    let started = std::fs::read_to_string(&file).unwrap();
    let started: Vec<&str> = started.split_whitespace().collect();
    assert_eq!(started.len(), 4);
    end_adapters();
    for process in started {
        assert!(is_gone(process), "{process}");
    }
    drop(adapters);
}
