//! Adapters that are broken or hostile: each has its own outcome, none takes more time or memory
//! than its limits, and none spoils the case after it.

#![cfg(unix)]

mod processes;

use std::process::Command;
use std::time::{Duration, Instant};

use goldstep_conformance::protocol::{Adapter, AdapterCommand, Limits};
use goldstep_conformance::{
    BuildRequest, Failure, GradientValues, Implementation, StateField, StateRequest, StepRequest,
    StepResponse, Subject, Variable,
};
use goldstep_core::DType;
use serde_json::{Map, json};

use processes::is_gone;

/// Reads messages and answers them: `$seq` is the number, `$command` the message's name.
const LOOP: &str = r#"
start() {
  echo '{"implementation":{"name":"sh","version":"1","language":"sh","source":"here"},"capabilities":{"dtypes":["float32"],"arguments":["learning_rate"],"schedules":[],"sparse":false,"ema":false,"constraints":false,"exclude":false,"set_learning_rate":true,"finalize":true,"states":["r","v"],"set_state":true,"intermediates":["alpha"],"base64":'"${base64:-false}"',"expectation":"goldstep"}}'
}
stepped() {
  echo '{"seq":'$1',"iterations":1,"learning_rate":0.5,"variables":[[1,2],[3]],"r":[[1],null],"v":[[5,"NaN"],[6]],"alpha":[null,0.25]}'
}
read -r line
start
answer() { echo "{\"seq\":$seq}"; }
listen() {
  while read -r line; do
    case $line in *'"stop"'*) exit 0;; esac
    seq=${line#*\"seq\":}; seq=${seq%%[!0-9]*}
    command=${line#*\"command\":\"}; command=${command%%\"*}
    "$command"
  done
}
build() { answer; }
set_state() { answer; }
step() { stepped $seq; }
finalize() { echo "{\"seq\":$seq,\"variables\":[[1,2],[3]]}"; }
"#;

fn limits() -> Limits {
    Limits {
        start: Duration::from_secs(30),
        answer: Duration::from_millis(1500),
        line_bytes: 1 << 20,
        ..Limits::default()
    }
}

fn try_script(body: &str, limits: Limits) -> Result<Adapter, Failure> {
    let text = format!("{LOOP}\n{body}");
    let command = AdapterCommand::new("sh").argument("-c").argument(text).with_limits(limits);
    Adapter::start(&command)
}

fn script(body: &str, limits: Limits) -> Adapter {
    match try_script(body, limits) {
        Ok(adapter) => adapter,
        Err(failure) => unreachable!("{failure}"),
    }
}

fn variables() -> Vec<Variable> {
    let variable = |name: &str, shape: &[usize], initial: &[f64]| Variable {
        name: name.to_owned(),
        shape: shape.to_vec(),
        initial: initial.to_vec(),
        constraint: None,
    };
    vec![variable("m", &[1, 2], &[0.1, 0.2]), variable("b", &[], &[0.3])]
}

fn build(adapter: &mut Adapter) -> Result<(), Failure> {
    build_of(adapter, &variables())
}

fn build_of(adapter: &mut Adapter, variables: &[Variable]) -> Result<(), Failure> {
    adapter.build(&BuildRequest {
        dtype: DType::Float32,
        arguments: &Map::new(),
        exclude_from_weight_decay: &[],
        variables,
    })
}

fn set_state(adapter: &mut Adapter) -> Result<(), Failure> {
    adapter.set_state(&StateRequest {
        iterations: 0,
        variables: &[&[0.1, 0.2], &[0.3]],
        r: &[Some(&[1.0]), None],
        c: &[Some(&[1.0, 1.0]), None],
        v: &[None, Some(&[1.0])],
        ema: &[None, None],
    })
}

fn step(adapter: &mut Adapter) -> Result<StepResponse, Failure> {
    let gradients = [GradientValues::Dense(vec![1.0, 2.0]), GradientValues::Dense(vec![3.0])];
    adapter.step(&StepRequest {
        learning_rate: None,
        gradients: &[Some(&gradients[0]), Some(&gradients[1])],
        states: &StateField::ALL,
        intermediates: true,
    })
}

fn is_protocol_fault(failure: &Failure, part: &str) -> bool {
    matches!(failure, Failure::Protocol { reason } if reason.contains(part))
}

/// The failure of the first step.
fn failure_of(body: &str) -> Failure {
    let mut adapter = script(body, limits());
    match build(&mut adapter).and_then(|()| step(&mut adapter)) {
        Err(failure) => failure,
        Ok(response) => unreachable!("{response:?}"),
    }
}

#[test]
fn a_conforming_adapter_is_understood() {
    let mut adapter = script("listen", limits());
    assert_eq!(adapter.describe().name, "sh");
    build(&mut adapter).unwrap();
    set_state(&mut adapter).unwrap();
    let response = step(&mut adapter).unwrap();
    assert_eq!((response.iterations, response.variables), (1, vec![vec![1.0, 2.0], vec![3.0]]));
    assert_eq!(response.r, [Some(vec![1.0]), None]);
    assert!(response.c.is_empty() && response.ema.is_empty());
    assert!(response.v[0].as_ref().unwrap()[1].is_nan());
    assert_eq!(response.intermediates[1].as_ref().unwrap().alpha, Some(0.25));
    assert_eq!(response.intermediates[0], None);
    assert_eq!(adapter.finalize().unwrap(), [vec![1.0, 2.0], vec![3.0]]);
    assert!(adapter.incidents().list().is_empty());
}

#[test]
fn a_failure_is_seen_again_with_the_same_command_line() {
    let line = format!("sh -c '{}'", format!("{LOOP}\nlisten").replace('\'', r#"'"'"'"#));
    let command = AdapterCommand::from_line(&line).unwrap();
    let subject = Subject::adapter(command.clone()).map_err(|failure| failure.to_string()).unwrap();
    let again = subject.invocation.verify();
    let word = again.strip_prefix("cargo xtask verify --adapter ").unwrap();
    let shell = Command::new("sh").arg("-c").arg(format!("printf %s {word}")).output().unwrap();
    let line = String::from_utf8(shell.stdout).unwrap();
    assert_eq!(AdapterCommand::from_line(&line), Ok(command));
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let command = AdapterCommand::new("no-such-adapter").argument("-x");
    let failure = Adapter::start(&command).unwrap_err().to_string();
    assert!(failure.contains("no process (no-such-adapter -x: No such file"), "{failure}");
}

#[test]
fn refusals_and_skips_are_answers() {
    let error = r#"echo '{"seq":'$seq',"error":{"stage":"step","type":"E","message":"no"}}'"#;
    let failure = failure_of(&format!("step() {{ {error}; }}; listen"));
    let expected = Failure::Error { stage: "step".into(), kind: "E".into(), message: "no".into() };
    assert_eq!(failure, expected);
    let skip = r#"step() { echo '{"seq":'$seq',"skip":"sparse"}'; }; listen"#;
    assert_eq!(failure_of(skip), Failure::Skip { reason: "sparse".into() });
    let stage = error.replace("\"step\"", "\"night\"");
    let failure = failure_of(&format!("step() {{ {stage}; }}; listen"));
    assert!(is_protocol_fault(&failure, "stage must be construct or step, got \"night\""));
}

#[test]
fn a_refused_state_is_reported_by_the_step() {
    let body = r#"set_state() { echo '{"seq":'$seq',"skip":"set_state"}'; }; listen"#;
    let mut adapter = script(body, limits());
    build(&mut adapter).unwrap();
    set_state(&mut adapter).unwrap();
    assert_eq!(step(&mut adapter), Err(Failure::Skip { reason: "set_state".into() }));
    build(&mut adapter).unwrap();
    assert!(step(&mut adapter).is_ok());
}

#[test]
fn an_early_exit_is_a_crash_with_status_and_errors() {
    let failure = failure_of("step() { echo one >&2; echo two >&2; exit 3; }; listen");
    let (status, stderr) = ("exit status: 3 on step".into(), "one\ntwo".into());
    assert_eq!(failure, Failure::Crash { status, stderr });
    let failure = failure_of("step() { kill -9 $$; }; listen");
    assert!(matches!(&failure, Failure::Crash { status, .. } if status.contains("SIGKILL")));
    let failure = failure_of("step() { exec >&-; sleep 60; }; listen");
    assert!(matches!(&failure, Failure::Crash { status, .. } if status.contains("ran on")));
}

#[test]
fn a_message_that_breaks_an_adapter_is_named() {
    // Sent together with a step.
    let mut adapter = script("set_state() { exit 3; }; listen", limits());
    build(&mut adapter).unwrap();
    set_state(&mut adapter).unwrap();
    let failure = step(&mut adapter).unwrap_err().to_string();
    assert_eq!(failure, "crashed with exit status: 3 on set_state: ");
}

#[test]
fn silence_is_a_time_out() {
    let begin = Instant::now();
    let failure = failure_of("step() { echo hm >&2; sleep 60; }; listen");
    let (message, stderr) = ("step".into(), "hm".into());
    assert_eq!(failure, Failure::TimeOut { message, seconds: 1.5, stderr });
    // A byte now and then does not extend the time.
    let dribble = "step() { while :; do printf x; sleep 0.1; done; }; listen";
    assert!(matches!(failure_of(dribble), Failure::TimeOut { .. }));
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn an_adapter_that_does_not_read_is_a_time_out() {
    let mut adapter = script("sleep 60", limits());
    let outcome = build_of(&mut adapter, &[large()]);
    assert!(matches!(outcome, Err(Failure::TimeOut { .. })), "{outcome:?}");
}

/// A variable whose message does not fit into a pipe.
fn large() -> Variable {
    Variable {
        name: "large".into(),
        shape: vec![1 << 19],
        initial: vec![0.1; 1 << 19],
        constraint: None,
    }
}

#[test]
fn endless_lines_before_a_message_is_read_end_at_the_limit() {
    let mut adapter = script("dd bs=1 count=1 >/dev/null 2>&1; yes", limits());
    let failure = build_of(&mut adapter, &[large()]).unwrap_err();
    assert!(is_protocol_fault(&failure, "a line must have at most 1048576 bytes"), "{failure}");
}

#[test]
fn an_empty_variable_has_factors() {
    let step = r#"echo '{"seq":'$seq',"iterations":1,"learning_rate":0.5,"variables":[[]],"r":[["NaN","NaN",1]],"v":[[]],"alpha":["NaN"]}'"#;
    let mut adapter = script(&format!("step() {{ {step}; }}; listen"), limits());
    let empty = Variable { name: "e".into(), shape: vec![3, 0], initial: vec![], constraint: None };
    build_of(&mut adapter, &[empty]).unwrap();
    let response = adapter
        .step(&StepRequest {
            learning_rate: None,
            gradients: &[Some(&GradientValues::Dense(vec![]))],
            states: &StateField::ALL,
            intermediates: true,
        })
        .unwrap();
    assert_eq!(response.r[0].as_ref().unwrap().len(), 3);
    assert_eq!(response.v, [Some(vec![])]);
}

#[test]
fn an_endless_line_ends_at_the_limit() {
    let failure = failure_of("step() { yes '' | tr '\\n' x; }; listen");
    assert!(is_protocol_fault(&failure, "a line must have at most 1048576 bytes"), "{failure}");
}

#[test]
fn endless_standard_error_is_cut() {
    let failure = failure_of("step() { yes error >&2; }; listen");
    let Failure::TimeOut { stderr, .. } = failure else { panic!("{failure}") };
    assert!(stderr.ends_with("error") && stderr.len() < 200, "{}", stderr.len());
}

#[test]
fn answers_that_break_the_protocol_are_explained() {
    for (answer, part) in [
        ("nonsense", "expected ident at line 1 column 2, in \"nonsense\""),
        ("[1]", "expected an object with seq"),
        (r#"{"seq":7}"#, "seq must be 2, got 7"),
        ("{}", "seq must be 2, got none"),
        (r#"{"seq":2}"#, "an answer to step must have iterations, got none"),
        (r#"{"seq":2,"colour":1}"#, "unknown field \"colour\""),
        (r#"{"seq":"2"}"#, "seq: invalid type: string \"2\", expected u64"),
        (r#"{"seq":2,"iterations":1.5}"#, "iterations: invalid type: floating point `1.5`"),
        (r#"{"seq":2,"learning_rate":[1]}"#, "learning_rate: invalid type: sequence"),
        (r#"{"seq":2,"error":"no"}"#, "error: invalid type: string \"no\""),
        (r#"{"seq":2,"skip":1}"#, "skip: invalid type: integer `1`"),
        (r#"{"seq":2,"seq":2}"#, "seq must come once"),
        (r#"{"seq":2} {"seq":3}"#, "trailing characters"),
        (
            r#"{"seq":2,"iterations":1,"learning_rate":1}"#,
            "an answer must have variables, got none",
        ),
        (
            r#"{"seq":2,"iterations":1,"learning_rate":1,"variables":[[1,2]]}"#,
            "variables must have 2 items, one per variable, got 1",
        ),
        (
            r#"{"seq":2,"iterations":1,"learning_rate":1,"variables":[[1,2],[3,4,5]]}"#,
            "variables: a tensor of this case has at most 2 elements, got more",
        ),
        (
            r#"{"seq":2,"iterations":1,"learning_rate":1,"variables":[[1],[3]]}"#,
            "variables of m must have 2 elements, got 1",
        ),
        (
            r#"{"seq":2,"iterations":1,"learning_rate":1,"variables":[[1,2],[3]],"r":[[1],[1]]}"#,
            "r of b must be null below rank 2",
        ),
        (
            r#"{"seq":2,"iterations":1,"learning_rate":1,"variables":[[1,NaN],[3]]}"#,
            "variables: expected value",
        ),
    ] {
        let failure = failure_of(&format!("step() {{ echo '{answer}'; }}; listen"));
        assert!(is_protocol_fault(&failure, part), "{answer}: {failure}");
    }
    let nested = "step() { yes '[' | head -n 100000 | tr -d '\\n'; echo; }; listen";
    assert!(is_protocol_fault(&failure_of(nested), "invalid type"), "{}", failure_of(nested));
    let numbers = "step() { printf '{\"variables\":[['; yes 0, | head -n 300000 | tr -d '\\n'; \
                   echo '0]]}'; }; listen";
    assert!(is_protocol_fault(&failure_of(numbers), "at most 2 elements, got more"));
}

#[test]
fn a_wrong_start_is_refused() {
    let start = |text: &str| {
        let script = format!("read -r line; echo '{text}'; sleep 5");
        let command = AdapterCommand::new("sh").argument("-c").argument(script);
        Adapter::start(&command.with_limits(limits())).unwrap_err()
    };
    assert!(is_protocol_fault(&start("hello"), "the answer to start must follow the protocol"));
    assert!(is_protocol_fault(&start("{}"), "missing field `implementation`"));
}

#[test]
fn a_message_that_nobody_asked_for_is_a_fault() {
    let failure = failure_of("build() { answer; answer; }; listen");
    assert!(matches!(failure, Failure::Protocol { .. }), "{failure}");
}

#[test]
fn what_comes_after_a_case_does_not_reach_the_next() {
    for late in [
        "stepped $seq; stepped $seq",
        "stepped $seq; printf x",
        "stepped $seq; exit 1",
        "stepped $seq; sleep 0.05; echo late",
    ] {
        let mut adapter = script(&format!("step() {{ {late}; }}; listen"), limits());
        for _ in 0..3 {
            build(&mut adapter).unwrap();
            assert!(step(&mut adapter).is_ok(), "{late}");
        }
        let incidents = adapter.incidents().clone();
        drop(adapter);
        let list = incidents.list();
        assert!(!list.is_empty() && list.len() <= 3, "{late}: {list:?}");
        assert!(list[0].starts_with("sh after a case: "), "{list:?}");
    }
}

#[test]
fn a_case_after_a_crash_starts_afresh() {
    let folder = tempfile::tempdir().unwrap();
    let marker = folder.path().join("crashed");
    let body = format!(
        "step() {{ if [ -e {0} ]; then stepped $seq; else touch {0}; exit 1; fi; }}; listen",
        marker.display()
    );
    let mut adapter = script(&body, limits());
    build(&mut adapter).unwrap();
    assert!(matches!(step(&mut adapter), Err(Failure::Crash { .. })));
    // What is left of the case has the same outcome.
    assert!(matches!(adapter.finalize(), Err(Failure::Crash { .. })));
    build(&mut adapter).unwrap();
    assert!(step(&mut adapter).is_ok());
}

#[test]
fn an_adapter_that_fails_again_and_again_is_given_up() {
    let mut adapter = script("step() { exit 1; }; listen", limits());
    let mut crashes = 0;
    while build(&mut adapter).is_ok() {
        assert!(step(&mut adapter).is_err());
        crashes += 1;
    }
    assert_eq!(crashes, limits().failures_in_a_row);
    let failure = build(&mut adapter).unwrap_err().to_string();
    assert!(failure.contains("not started again after 8 failures in a row"), "{failure}");
}

#[test]
fn what_an_adapter_started_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("child");
    let fork = format!("sleep 600 & echo $! > {}", file.display());
    for body in [
        format!("build() {{ {fork}; answer; }}; listen"),
        format!("build() {{ {fork}; answer; }}; step() {{ exit 1; }}; listen"),
        format!("build() {{ {fork}; answer; }}; step() {{ sleep 60; }}; listen"),
    ] {
        let mut adapter = script(&body, limits());
        build(&mut adapter).unwrap();
        let child = std::fs::read_to_string(&file).unwrap().trim().to_owned();
        let _outcome = step(&mut adapter);
        drop(adapter);
        assert!(is_gone(&child), "{body}");
    }
}

/// An adapter that has left its process group ends all the same, and nobody waits for it.
#[test]
fn a_process_that_left_its_group_ends_too() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("process");
    let leave = "exec perl -e 'setpgrp(0, getpgrp(getppid())); sleep 600'";
    let body = format!("build() {{ echo $$ > {}; {leave}; }}; listen", file.display());
    let begin = Instant::now();
    let mut adapter = script(&body, limits());
    build(&mut adapter).unwrap_err();
    drop(adapter);
    let process = std::fs::read_to_string(&file).unwrap().trim().to_owned();
    assert!(is_gone(&process));
    assert!(begin.elapsed() < Duration::from_secs(20));
}

#[test]
fn base64_is_sent_where_it_was_announced() {
    let body = r#"
build() {
  case $line in
    *'"initial":"zczMPc3MTD4="'*) echo "{\"seq\":$seq}";;
    *) echo "{\"seq\":$seq,\"skip\":\"no base64\"}";;
  esac
}
finalize() { echo "{\"seq\":$seq,\"variables\":[\"AACAPwAAAEA=\",[3]]}"; }
listen"#;
    let text = format!("base64=true\n{LOOP}\n{body}");
    let command = AdapterCommand::new("sh").argument("-c").argument(text);
    let mut adapter = Adapter::start(&command.with_limits(limits())).unwrap();
    build(&mut adapter).unwrap();
    assert_eq!(adapter.finalize().unwrap(), [vec![1.0, 2.0], vec![3.0]]);
    assert_eq!(
        build(&mut script(body, limits())),
        Err(Failure::Skip { reason: "no base64".into() })
    );
}

#[test]
fn numbers_are_written_as_the_page_says() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lines");
    let body = format!("step() {{ echo \"$line\" > {}; stepped $seq; }}; listen", file.display());
    let mut adapter = script(&body, limits());
    build(&mut adapter).unwrap();
    let gradients =
        [GradientValues::Dense(vec![0.1, f64::NAN]), GradientValues::Dense(vec![1e-30])];
    let rate = json!(0.5);
    adapter
        .step(&StepRequest {
            learning_rate: Some(&rate),
            gradients: &[Some(&gradients[0]), Some(&gradients[1])],
            states: &[StateField::R, StateField::V],
            intermediates: true,
        })
        .unwrap();
    let line = std::fs::read_to_string(file).unwrap();
    let expected = concat!(
        r#"{"command":"step","seq":2,"learning_rate":0.5,"gradients":[[0.1,"NaN"],[1e-30]],"#,
        r#""want":["variables","r","v","alpha"]}"#
    );
    assert_eq!(line.trim(), expected);
}
