//! Who is judged.

use crate::agreement::Role;
use crate::free::FreeRuns;
use crate::implementation::{Failure, Implementation};
use crate::invocation::Invocation;
use crate::known::KnownDifference;
use crate::panics::Guarded;
use crate::watch::Watch;

/// Makes implementations, one per thread. One that broke down has to work again from the next
/// `build` on, as [`Adapter`](crate::protocol::Adapter) does: nothing may leak into the next run.
pub type Factory = Box<dyn Fn() -> Result<Box<dyn Implementation>, Failure> + Send + Sync>;

/// Who is judged, how strictly, and what is known about it.
pub struct Subject {
    /// The name in reports.
    pub name: String,
    /// How a command line chooses it.
    pub invocation: Invocation,
    /// Which tolerances hold.
    pub role: Role,
    /// Makes an implementation.
    pub make: Factory,
    /// Where it differs on purpose.
    pub known_differences: Vec<KnownDifference>,
    /// For a subject that computes halves in float32: makes the implementation that shows what such
    /// arithmetic gives, as [`Wide`](crate::Wide) does. Where the subject gives the same, a
    /// difference from tf.keras in half precision is a known one.
    pub wide: Option<Factory>,
    /// Which combinations of a grid it runs free, where its state can be set.
    pub free_runs: FreeRuns,
    /// Who is told of a run that does not come back; an adapter has its own time limits.
    pub watch: Option<Watch>,
    /// Lists faults that belong to no run; a report with any of them is not a clean one.
    pub incidents: Box<dyn Fn() -> Vec<String> + Send + Sync>,
}

impl Subject {
    /// A subject without known differences, whose panics are crashes.
    pub fn new(
        name: impl Into<String>,
        role: Role,
        make: impl Fn() -> Result<Box<dyn Implementation>, Failure> + Send + Sync + 'static,
    ) -> Self {
        let name = name.into();
        Self {
            invocation: Invocation::backend(&name),
            name,
            role,
            make: Box::new(move || Ok(Box::new(Guarded(make()?)) as Box<dyn Implementation>)),
            known_differences: Vec::new(),
            wide: None,
            free_runs: FreeRuns::All,
            watch: None,
            incidents: Box::new(Vec::new),
        }
    }

    /// A program that speaks the adapter protocol, under the name that it gives itself.
    ///
    /// # Errors
    /// A program that cannot be started or does not introduce itself.
    #[cfg(unix)]
    pub fn adapter(command: crate::protocol::AdapterCommand) -> Result<Self, Failure> {
        use crate::protocol::{Adapter, Incidents};
        let name = Adapter::start(&command)?.describe().name.clone();
        let invocation = Invocation::adapter(&command.to_string());
        let incidents = Incidents::default();
        let shared = incidents.clone();
        let make = move || -> Result<Box<dyn Implementation>, Failure> {
            Ok(Box::new(Adapter::start_with(&command, shared.clone())?))
        };
        let subject = Self::new(name, Role::Other, make);
        Ok(Self { invocation, incidents: Box::new(move || incidents.list()), ..subject })
    }

    /// The same subject, which a command line chooses like this.
    #[must_use]
    pub fn with_invocation(mut self, invocation: Invocation) -> Self {
        self.invocation = invocation;
        self
    }

    /// The same subject with its known differences.
    #[must_use]
    pub fn with_known_differences(mut self, known_differences: Vec<KnownDifference>) -> Self {
        self.known_differences = known_differences;
        self
    }

    /// The same subject, which computes halves in float32 as what `wide` makes does.
    #[must_use]
    pub fn with_wide(
        mut self,
        wide: impl Fn() -> Result<Box<dyn Implementation>, Failure> + Send + Sync + 'static,
    ) -> Self {
        self.wide = Some(Box::new(wide));
        self
    }

    /// The same subject, watched for runs that do not come back.
    #[must_use]
    pub fn watched_by(mut self, watch: Watch) -> Self {
        self.watch = Some(watch);
        self
    }

    /// The same subject, of whose grids not everything runs free.
    #[must_use]
    pub const fn with_free_runs(mut self, free_runs: FreeRuns) -> Self {
        self.free_runs = free_runs;
        self
    }
}
