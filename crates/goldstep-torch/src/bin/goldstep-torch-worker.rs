//! Serves the libtorch backend over the adapter protocol `goldstep-adapter/1`.
//!
//! ```text
//! goldstep-torch-worker [--device cpu|cuda|cuda:N] [--threads N] [--whole-tensors]
//! ```

use std::process::ExitCode;

use goldstep_conformance::protocol::serve;
use goldstep_torch::device_from_name;
use goldstep_torch::worker::TorchImplementation;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("goldstep-torch-worker: {error}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut device = "cpu".to_owned();
    let mut whole_tensors = false;
    // One thread unless told otherwise: the variables of a trace are small, and the harness runs
    // other processes beside this one.
    let mut threads = 1;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value =
            || arguments.next().ok_or(format!("{argument} must have a value, got none"));
        match argument.as_str() {
            "--device" => device = value()?,
            "--threads" => {
                let text = value()?;
                threads = text
                    .parse()
                    .ok()
                    .filter(|threads| *threads > 0)
                    .ok_or(format!("--threads must be a whole number above 0, got {text}"))?;
            }
            "--whole-tensors" => whole_tensors = true,
            _ => {
                let known = "--device, --threads or --whole-tensors";
                return Err(format!("argument must be {known}, got {argument}").into());
            }
        }
    }
    tch::set_num_threads(threads);
    let mut implementation = TorchImplementation::new(device_from_name(&device)?, whole_tensors);
    serve(&mut implementation, std::io::stdin().lock(), std::io::stdout().lock())?;
    Ok(())
}
