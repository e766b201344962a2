//! The learning rate: a constant or a schedule.

use crate::schedule::Schedule;
use crate::{Element, Error};

/// A constant learning rate or a schedule over iterations.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum LearningRate {
    /// The same rate in every step; used as float32, as in Keras.
    Constant(f64),
    /// A rate computed from the 0-based iteration.
    Schedule(Schedule),
}

impl LearningRate {
    /// The rate of the step that starts at `iterations` (0-based), float32 as Keras keeps it.
    #[must_use]
    pub fn at(&self, iterations: u64) -> f32 {
        match self {
            Self::Constant(value) => f32::round_from(*value),
            Self::Schedule(schedule) => schedule.at(iterations),
        }
    }

    /// What this rate becomes when `next` is assigned in mid-run.
    ///
    /// # Errors
    /// A number onto a schedule is refused, as in Keras; so are NaN, infinite and negative numbers.
    pub fn assign(&mut self, next: Self) -> Result<(), Error> {
        next.validate()?;
        if let (Self::Schedule(_), Self::Constant(value)) = (&*self, &next) {
            return Err(Error::NumberOntoSchedule { value: *value });
        }
        *self = next;
        Ok(())
    }

    /// Checks what can only be a mistake.
    ///
    /// # Errors
    /// A constant that is NaN, infinite or negative; a schedule with an unusable field.
    pub fn validate(&self) -> Result<(), Error> {
        match self {
            Self::Constant(value) if value.is_finite() && *value >= 0.0 => Ok(()),
            Self::Constant(value) => Err(Error::Argument {
                name: "learning_rate",
                rule: "finite and at least 0",
                value: value.to_string(),
            }),
            Self::Schedule(schedule) => schedule.validate(),
        }
    }
}

impl From<f64> for LearningRate {
    fn from(value: f64) -> Self {
        Self::Constant(value)
    }
}

impl From<Schedule> for LearningRate {
    fn from(schedule: Schedule) -> Self {
        Self::Schedule(schedule)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_cannot_replace_a_schedule() {
        let schedule = Schedule::exponential_decay(0.1, 10.0, 0.5, false);
        let mut rate = LearningRate::from(0.5);
        rate.assign(0.25.into()).unwrap();
        rate.assign(schedule.clone().into()).unwrap();
        assert_eq!(rate.assign(0.5.into()), Err(Error::NumberOntoSchedule { value: 0.5 }));
        assert_eq!(rate, LearningRate::Schedule(schedule));
    }
}
