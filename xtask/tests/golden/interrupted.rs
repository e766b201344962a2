//! However a recording ends, the goldens in place are whole: the old ones or the new ones.

use std::fs;
use std::time::{Duration, Instant};

use crate::place::{Place, traces};

const MOMENTS: u32 = 20;

#[test]
fn a_killed_recording_leaves_whole_goldens() {
    let place = Place::new();
    let dates = ["2001-01-01", "2002-02-02"];
    for date in dates {
        traces(&place.path(date), date);
    }
    traces(&place.path("v1"), dates[0]);
    let started = Instant::now();
    place.finish(dates[1]);
    let whole = started.elapsed();
    assert_eq!(place.date(), dates[1]);

    for moment in 0..MOMENTS {
        // Spread over the whole run and a little beyond, at places that look random.
        let share = (f64::from(moment) * 0.618).fract() * 1.2;
        let date = dates[moment as usize % 2];
        let mut recording = place.start(date, &[]);
        std::thread::sleep(Duration::from_secs_f64(whole.as_secs_f64() * share));
        recording.kill().unwrap();
        recording.wait().unwrap();
        assert!(dates.contains(&place.date().as_str()), "killed at {share:.2} of the run");
    }

    place.finish(dates[0]);
    assert_eq!(place.date(), dates[0]);
    let left = fs::read_dir(place.path("v1").parent().unwrap()).unwrap().flatten();
    let left = left.filter(|entry| entry.file_name().to_string_lossy().starts_with(".v1.new-"));
    // A generator that outlived its killed parent may still be copying; the next recording cleans.
    assert!(left.count() <= 1);
}

#[test]
fn a_recording_that_is_not_whole_replaces_nothing() {
    let place = Place::new();
    traces(&place.path("v1"), "2001-01-01");
    traces(&place.path("damaged"), "2002-02-02");
    let cases = place.path("damaged").join("errors/cases.jsonl");
    let text = fs::read_to_string(&cases).unwrap();
    fs::write(&cases, text.replacen("0.", "1.", 1)).unwrap();
    let output = place.output("damaged", &[]);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("so nothing was replaced"), "{said}");
    assert_eq!(place.date(), "2001-01-01");
}
