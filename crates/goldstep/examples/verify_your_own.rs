//! Holds an optimizer of your own against the traces of tf.keras.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use goldstep::{AdafactorArguments, Element, Error, HostOptimizer, ParameterList};
use goldstep_conformance::agreement::Role;
use goldstep_conformance::golden::Golden;
use goldstep_conformance::{Builds, Capabilities, Description, Focus, InProcess, Plain};
use goldstep_conformance::{Selection, Subject, run};
use goldstep_reference::Adafactor;

struct Mine;

impl<T: Element> Builds<T> for Mine {
    // Put the type that you implemented `HostOptimizer` for in place of the reference.
    type Session = Plain<Adafactor<T>>;

    fn build(&self, a: &AdafactorArguments, p: &ParameterList) -> Result<Self::Session, Error> {
        Adafactor::build(a, p).map(Plain)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let subject = Subject::new("mine", Role::Other, || {
        let (name, version) = ("mine".to_owned(), "0.1.0".to_owned());
        let (language, source) = ("Rust".to_owned(), "https://example.com".to_owned());
        let capabilities = Capabilities::everything();
        let description = Description { name, version, language, source, capabilities };
        Ok(Box::new(InProcess::new(Mine, description)))
    });
    // The traces lie in the repository of Goldstep.
    let directory = std::env::args().nth(1).unwrap_or_else(|| "golden/v1".to_owned());
    let golden = Golden::load(directory.as_ref())?;
    let family = [golden.families()[0].id.clone()];
    let selection = Selection::new(&golden, &family, &[], Focus::default())?;
    let report = run(&golden, &selection, &subject, 2, &|_| {})?;
    println!("{}: {} runs judged, all agree: {}", family[0], report.judged(), report.agrees());
    assert!(report.agrees() && !report.is_broken());
    Ok(())
}
