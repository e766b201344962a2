//! A pool of the caller's own is used, and no other is started.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use goldstep_core::{AdafactorArguments, Gradient, HostOptimizer, Parameter, ParameterList};
use goldstep_cpu::Adafactor;

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn a_step_runs_in_the_pool_that_it_is_called_in() {
    let list = ParameterList::new(vec![Parameter::new("w", &[1000, 1000]).unwrap()]).unwrap();
    let (mut parameter, gradient) = (vec![1.0_f32; 1_000_000], vec![0.1_f32; 1_000_000]);
    let before = threads();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    pool.install(|| {
        let mut optimizer = Adafactor::build(&AdafactorArguments::default(), &list).unwrap();
        for _ in 0..3 {
            optimizer.step(&mut [&mut parameter], &[Some(Gradient::Dense(&gradient))]).unwrap();
        }
    });
    // Rayon's global pool would have threads of its own.
    assert_eq!(threads(), before + 3);
    assert!(parameter.iter().all(|&x| x < 1.0));
}
