//! Steps of goldstep-cpu under criterion, for work on a kernel: `cargo bench -p benches`.
//!
//! The published tables are made by `cargo xtask bench`, which measures everybody in turn.

use std::hint::black_box;

use benches::contestant::Contestant;
use benches::contestants;
use benches::plan::{Extent, Row};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Rows up to this many parameters: criterion's samples are to take seconds, not minutes.
const LARGEST: usize = 20_000_000;

fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cpu");
    let rows = Extent::Full.rows();
    for row in rows.iter().filter(|row| row.workload.elements() <= LARGEST) {
        // Made when it is wanted: a filter on the command line then costs no memory.
        let mut made: Option<Box<dyn Contestant>> = None;
        let elements = row.workload.elements();
        group.throughput(Throughput::Elements(u64::try_from(elements).unwrap_or(u64::MAX)));
        group.bench_function(BenchmarkId::from_parameter(row.name()), |bencher| {
            let contestant = made.get_or_insert_with(|| contestant(row));
            bencher.iter(|| contestant.step().expect("a step"));
        });
    }
    group.finish();
}

fn construction(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("construction");
    for row in Extent::Headline.rows().iter().filter(|row| row.workload.elements() <= LARGEST) {
        group.bench_function(BenchmarkId::from_parameter(row.name()), |bencher| {
            let (arguments, list) = contestants::plan(&row.task(1)).expect("a plan");
            bencher.iter(|| {
                let builder = goldstep_cpu::Adafactor::<f32>::builder(&arguments, &list);
                black_box(builder.threads(1).build().expect("an optimizer"))
            });
        });
    }
    group.finish();
}

fn contestant(row: &Row) -> Box<dyn Contestant> {
    let mut contestant = contestants::named("cpu").expect("one of ours");
    contestant.prepare(&row.task(1)).expect("parameters");
    contestant.build().expect("an optimizer");
    contestant
}

criterion_group!(benches, steps, construction);
criterion_main!(benches);
