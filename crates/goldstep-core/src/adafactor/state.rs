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
    /// Another number of parameters, a factor or average of another length, a factored state where
    /// a full one belongs or the reverse, averages that are missing although `ema` is on and a step
    /// was done, averages although it is off.
    pub fn check(&self, parameters: &ParameterList, ema: bool) -> Result<(), Error> {
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
