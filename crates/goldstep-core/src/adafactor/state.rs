//! The complete state of an Adafactor.

use crate::{DType, Error, Layout, ParameterList, Values};

/// Everything that has to be kept to continue a run.
#[derive(Debug, Clone, PartialEq)]
pub struct AdafactorState {
    /// Steps done.
    pub iterations: u64,
    /// One entry per parameter, in the order of the list.
    pub variables: Vec<VariableState>,
}

/// The state of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct VariableState {
    /// Running mean of the squared gradient.
    pub second_moment: SecondMoment,
    /// Average of the parameter, in its shape; `None` without EMA and before the first step.
    pub average: Option<Values>,
}

/// The running mean of the squared gradient, factored from rank 2.
#[derive(Debug, Clone, PartialEq)]
pub enum SecondMoment {
    /// One value per element.
    Full(Values),
    /// Means over the last axis and over the second-to-last one.
    Factored {
        /// Mean over columns, one per row: shape `shape[..-1]`.
        row_factor: Values,
        /// Mean over rows, one per column: shape `shape[..-2] + shape[-1..]`.
        column_factor: Values,
    },
}

impl AdafactorState {
    /// The state before the first step: zeros, no averages.
    #[must_use]
    pub fn zeros(parameters: &ParameterList, dtype: DType) -> Self {
        let zeros = |length: usize| Values::round_from(dtype, std::iter::repeat_n(0.0, length));
        let variables = parameters.iter().map(|parameter| VariableState {
            second_moment: match parameter.layout() {
                Layout::Full { elements } => SecondMoment::Full(zeros(elements)),
                Layout::Factored { batches, rows, columns } => SecondMoment::Factored {
                    row_factor: zeros(batches * rows),
                    column_factor: zeros(batches * columns),
                },
            },
            average: None,
        });
        Self { iterations: 0, variables: variables.collect() }
    }

    /// Checks that the state fits a parameter list.
    ///
    /// # Errors
    /// Iterations from 2^63 on, another number of parameters, a factor or average of another length, a factored state where
    /// a full one belongs or the reverse, averages that are missing although `ema` is on and a step
    /// was done, averages although it is off.
    pub fn check(&self, parameters: &ParameterList, ema: bool) -> Result<(), Error> {
        if i64::try_from(self.iterations).is_err() {
            return Err(Error::Iterations { iterations: self.iterations });
        }
        parameters.check_count("variable states", self.variables.len())?;
        for (parameter, state) in parameters.iter().zip(&self.variables) {
            let wrong =
                |rule: &str| Error::State { name: parameter.name().into(), rule: rule.into() };
            match (parameter.layout(), &state.second_moment) {
                (Layout::Full { elements }, SecondMoment::Full(values)) => {
                    parameter.check_length("second_moment", elements, values.len())?;
                }
                (
                    Layout::Factored { batches, rows, columns },
                    SecondMoment::Factored { row_factor, column_factor },
                ) => {
                    parameter.check_length("row_factor", batches * rows, row_factor.len())?;
                    let expected = batches * columns;
                    parameter.check_length("column_factor", expected, column_factor.len())?;
                }
                (Layout::Full { .. }, _) => return Err(wrong("must be full below rank 2")),
                (Layout::Factored { .. }, _) => return Err(wrong("must be factored from rank 2")),
            }
            match &state.average {
                Some(_) if !ema => return Err(wrong("must hold no average without use_ema")),
                Some(values) => {
                    parameter.check_length("average", parameter.elements(), values.len())?;
                }
                None if ema && self.iterations > 0 => {
                    return Err(wrong("must hold an average with use_ema"));
                }
                None => {}
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Parameter;

    fn parameters() -> ParameterList {
        let parameter = |name: &str, shape: &[usize]| Parameter::new(name, shape).unwrap();
        ParameterList::new(vec![parameter("vector", &[5]), parameter("experts", &[2, 3, 4])])
            .unwrap()
    }

    #[test]
    fn zeros_have_the_lengths_of_the_layout() {
        let state = AdafactorState::zeros(&parameters(), DType::Float16);
        assert_eq!(state.iterations, 0);
        let zeros = |length| Values::round_from(DType::Float16, vec![0.0; length]);
        assert_eq!(state.variables[0].second_moment, SecondMoment::Full(zeros(5)));
        let (row_factor, column_factor) = (zeros(6), zeros(8));
        let factored = SecondMoment::Factored { row_factor, column_factor };
        assert_eq!(state.variables[1].second_moment, factored);
        let kept: Vec<usize> = state.variables.iter().map(|one| one.second_moment.len()).collect();
        assert_eq!(kept, [5, 14]);
        assert!(!factored.is_empty() && SecondMoment::Full(zeros(0)).is_empty());
        assert!(state.variables.iter().all(|one| one.average.is_none()));
        assert_eq!(state.check(&parameters(), false), Ok(()));
        assert_eq!(state.check(&parameters(), true), Ok(()));
    }

    /// What is said of a state that was spoiled.
    fn refused(ema: bool, spoil: impl Fn(&mut AdafactorState)) -> String {
        let mut state = AdafactorState::zeros(&parameters(), DType::Float32);
        spoil(&mut state);
        state.check(&parameters(), ema).unwrap_err().to_string()
    }

    #[test]
    fn a_state_that_does_not_fit_is_refused() {
        let values = |length| Values::round_from(DType::Float32, vec![1.0; length]);
        let full = |length| SecondMoment::Full(values(length));
        let factored = |rows, columns| SecondMoment::Factored {
            row_factor: values(rows),
            column_factor: values(columns),
        };
        for (index, moment, said) in [
            (0, full(4), "second_moment"),
            (0, factored(1, 5), "must be full below rank 2"),
            (1, full(24), "must be factored from rank 2"),
            (1, factored(5, 8), "row_factor"),
            (1, factored(6, 7), "column_factor"),
        ] {
            let text =
                refused(false, |state| state.variables[index].second_moment = moment.clone());
            assert!(text.contains(said), "{text}");
        }
        assert!(refused(false, |state| state.variables.truncate(1)).contains("variable states"));
        assert_eq!(
            refused(false, |state| state.iterations = 1 << 63),
            "iterations must be below 2^63, got 9223372036854775808"
        );
    }

    #[test]
    fn averages_belong_to_ema_alone() {
        let values = |length| Some(Values::round_from(DType::Float32, vec![1.0; length]));
        let text = refused(false, |state| state.variables[0].average = values(5));
        assert!(text.contains("must hold no average without use_ema"), "{text}");
        let text = refused(true, |state| state.variables[0].average = values(4));
        assert!(text.contains("average"), "{text}");
        let text = refused(true, |state| state.iterations = 1);
        assert!(text.contains("must hold an average with use_ema"), "{text}");
        let mut state = AdafactorState::zeros(&parameters(), DType::Float32);
        state.iterations = 1;
        assert_eq!(state.check(&parameters(), false), Ok(()));
        (state.variables[0].average, state.variables[1].average) = (values(5), values(24));
        assert_eq!(state.check(&parameters(), true), Ok(()));
    }
}
