//! The libtorch backend as a contestant, in a program of its own: only this one links libtorch.

use anyhow::Result;
use benches::contestant::serve;
use benches::contestants::torch;

fn main() -> Result<()> {
    serve(&mut *torch(), std::io::stdin().lock(), std::io::stdout().lock())
}
