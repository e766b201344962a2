//! The parameters that an optimizer was planned for: names, shapes, constraints.

use std::ops::Index;

use regex::RegexSet;

use crate::{Element, Error, Gradient};

/// What a parameter has to fulfil after each step in which it had a gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Constraint {
    /// Negative elements become 0 (`tf.keras.constraints.NonNeg`).
    NonNegative,
    /// Elements are clipped to a range.
    Clip {
        /// The lower end.
        minimum: f64,
        /// The upper end.
        maximum: f64,
    },
}

/// How the second moment of a parameter is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Below rank 2: one value per element.
    Full {
        /// Elements of the parameter.
        elements: usize,
    },
    /// From rank 2: the last two axes are factored, for each index of the axes before them.
    Factored {
        /// Product of the leading axes.
        batches: usize,
        /// Length of the second-to-last axis.
        rows: usize,
        /// Length of the last axis.
        columns: usize,
    },
}

/// Name, shape and treatment of one parameter.
#[derive(Debug, Clone)]
pub struct Parameter {
    name: String,
    shape: Vec<usize>,
    elements: usize,
    constraint: Option<Constraint>,
    /// By the caller, whatever its name is.
    exempt: bool,
    /// By a pattern that is found in its name.
    excluded: bool,
}

impl Parameter {
    /// A parameter of any rank; axes of length 0 and 1 are allowed.
    ///
    /// # Errors
    /// A shape whose size in bytes does not fit the address space.
    pub fn new(name: impl Into<String>, shape: &[usize]) -> Result<Self, Error> {
        let name = name.into();
        // The product of the non-zero axes, so that the state of an empty parameter fits as well.
        let size = shape
            .iter()
            .map(|&axis| axis.max(1))
            .try_fold(1_usize, usize::checked_mul)
            .and_then(|elements| elements.checked_mul(size_of::<f64>()));
        match size {
            Some(size) if isize::try_from(size).is_ok() => Ok(Self {
                name,
                shape: shape.to_vec(),
                elements: shape.iter().product(),
                constraint: None,
                exempt: false,
                excluded: false,
            }),
            _ => Err(Error::ShapeOverflow { name, shape: shape.to_vec() }),
        }
    }

    /// The same parameter with a constraint.
    #[must_use]
    pub const fn with_constraint(mut self, constraint: Constraint) -> Self {
        self.constraint = Some(constraint);
        self
    }

    /// The same parameter, exempt from weight decay whatever
    /// [`exclude_from_weight_decay`](ParameterList::exclude_from_weight_decay) says, as one of Keras's
    /// `var_list`.
    #[must_use]
    pub const fn without_weight_decay(mut self) -> Self {
        self.exempt = true;
        self
    }

    /// The name that the user gave.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The length of each axis.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The number of elements.
    #[must_use]
    pub const fn elements(&self) -> usize {
        self.elements
    }

    /// The constraint, if there is one.
    #[must_use]
    pub const fn constraint(&self) -> Option<Constraint> {
        self.constraint
    }

    /// Whether weight decay applies.
    #[must_use]
    pub const fn decays(&self) -> bool {
        !(self.exempt || self.excluded)
    }

    /// How its second moment is kept.
    #[must_use]
    pub fn layout(&self) -> Layout {
        match self.shape.as_slice() {
            [leading @ .., rows, columns] => Layout::Factored {
                batches: leading.iter().product(),
                rows: *rows,
                columns: *columns,
            },
            _ => Layout::Full { elements: self.elements },
        }
    }

    /// Elements per index of the first axis: the length of a row of a sparse gradient.
    #[must_use]
    pub fn row_elements(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Checks a gradient's length and row indices.
    ///
    /// # Errors
    /// A length that the shape does not give, rows of a scalar, a row beyond the first axis.
    pub fn check_gradient<T: Element>(&self, gradient: &Gradient<'_, T>) -> Result<(), Error> {
        match gradient {
            Gradient::Dense(values) => self.check_length("gradient", self.elements, values.len()),
            Gradient::Sparse { indices, values } => {
                let Some(&rows) = self.shape.first() else {
                    return Err(Error::Tensor {
                        what: "gradient",
                        name: self.name.clone(),
                        rule: "be dense for a scalar".into(),
                        got: "rows".into(),
                    });
                };
                let expected = indices.len().saturating_mul(self.row_elements());
                self.check_length("gradient", expected, values.len())?;
                let beyond = |index: &&i64| usize::try_from(**index).is_ok_and(|row| row >= rows);
                match indices.iter().find(beyond) {
                    Some(&index) => Err(Error::RowIndex { name: self.name.clone(), rows, index }),
                    None => Ok(()),
                }
            }
        }
    }

    /// Checks the number of elements of a tensor that belongs to this parameter.
    ///
    /// # Errors
    /// Another length than `expected`.
    pub fn check_length(
        &self,
        what: &'static str,
        expected: usize,
        got: usize,
    ) -> Result<(), Error> {
        if expected == got {
            Ok(())
        } else {
            Err(Error::Length { what, name: self.name.clone(), expected, got })
        }
    }
}

/// Two parameters are equal if an optimizer treats them in the same way, whoever exempted them.
impl PartialEq for Parameter {
    fn eq(&self, other: &Self) -> bool {
        let treatment = |one: &Self| (one.constraint, one.decays());
        self.name == other.name && self.shape == other.shape && treatment(self) == treatment(other)
    }
}

/// The parameters of an optimizer, in the order of every later call.
#[derive(Debug, Clone, PartialEq)]
pub struct ParameterList {
    parameters: Vec<Parameter>,
}

impl ParameterList {
    /// A list of at least one parameter with unique names.
    ///
    /// # Errors
    /// An empty list, a name that occurs twice.
    pub fn new(parameters: Vec<Parameter>) -> Result<Self, Error> {
        if parameters.is_empty() {
            return Err(Error::EmptyList);
        }
        let mut names: Vec<&str> = parameters.iter().map(Parameter::name).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Error::DuplicateName { name: pair[0].to_owned() }),
            None => Ok(Self { parameters }),
        }
    }

    /// Exempts every parameter in whose name one of the patterns is found from weight decay, beside
    /// those that were made [`without_weight_decay`](Parameter::without_weight_decay). A second call
    /// replaces the first, as in Keras.
    ///
    /// # Errors
    /// A pattern that is not a regular expression; nothing is changed then.
    pub fn exclude_from_weight_decay(&mut self, patterns: &[impl AsRef<str>]) -> Result<(), Error> {
        let excluded = RegexSet::new(patterns.iter().map(AsRef::as_ref)).map_err(|error| {
            let broken = |pattern: &&str| RegexSet::new([*pattern]).is_err();
            let pattern = patterns.iter().map(AsRef::as_ref).find(broken).unwrap_or_default();
            let message = error.to_string();
            // The last line says what is wrong, those before it draw where.
            let reason = message.lines().last().unwrap_or_default().trim();
            Error::Pattern {
                pattern: pattern.to_owned(),
                reason: reason.trim_start_matches("error: ").to_owned(),
            }
        })?;
        for parameter in &mut self.parameters {
            parameter.excluded = excluded.is_match(&parameter.name);
        }
        Ok(())
    }

    /// The number of parameters, at least 1.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a parameter list is never empty")]
    pub fn len(&self) -> usize {
        self.parameters.len()
    }

    /// The parameters in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Parameter> {
        self.parameters.iter()
    }

    /// Checks the lists of a step: as many parameters and gradients as planned, each of its
    /// length, and at least one gradient. Nothing may be written before this has succeeded.
    ///
    /// # Errors
    /// The first violation, in the order above.
    pub fn check_step<T: Element>(
        &self,
        parameter_lengths: impl ExactSizeIterator<Item = usize>,
        gradients: &[Option<Gradient<'_, T>>],
    ) -> Result<(), Error> {
        self.check_parameters(parameter_lengths)?;
        self.check_count("gradients", gradients.len())?;
        for (parameter, gradient) in self.iter().zip(gradients) {
            gradient.iter().try_for_each(|gradient| parameter.check_gradient(gradient))?;
        }
        if gradients.iter().all(Option::is_none) {
            return Err(Error::NoGradients { parameters: self.len() });
        }
        Ok(())
    }

    /// Checks that as many parameters came as planned, each of its length.
    ///
    /// # Errors
    /// Another count or length.
    pub fn check_parameters(
        &self,
        lengths: impl ExactSizeIterator<Item = usize>,
    ) -> Result<(), Error> {
        self.check_count("parameters", lengths.len())?;
        self.iter().zip(lengths).try_for_each(|(parameter, length)| {
            parameter.check_length("parameter", parameter.elements(), length)
        })
    }

    /// Checks that something came once per parameter.
    ///
    /// # Errors
    /// Another count.
    pub fn check_count(&self, what: &'static str, got: usize) -> Result<(), Error> {
        if got == self.len() {
            Ok(())
        } else {
            Err(Error::Count { what, expected: self.len(), got })
        }
    }
}

impl Index<usize> for ParameterList {
    type Output = Parameter;

    fn index(&self, index: usize) -> &Parameter {
        &self.parameters[index]
    }
}

impl<'a> IntoIterator for &'a ParameterList {
    type Item = &'a Parameter;
    type IntoIter = std::slice::Iter<'a, Parameter>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list() -> ParameterList {
        let parameters =
            [("w", vec![2, 3]), ("b", vec![3])].map(|(name, shape)| Parameter::new(name, &shape));
        ParameterList::new(parameters.into_iter().collect::<Result<_, _>>().unwrap()).unwrap()
    }

    #[test]
    fn layouts_factor_the_last_two_axes() {
        let layout = |shape: &[usize]| Parameter::new("p", shape).unwrap().layout();
        assert_eq!(layout(&[]), Layout::Full { elements: 1 });
        assert_eq!(layout(&[7]), Layout::Full { elements: 7 });
        assert_eq!(layout(&[5, 2, 0, 3]), Layout::Factored { batches: 10, rows: 0, columns: 3 });
        let parameter = Parameter::new("experts", &[5, 2, 3]).unwrap();
        assert_eq!((parameter.name(), parameter.shape()), ("experts", &[5, 2, 3][..]));
        assert_eq!((parameter.elements(), parameter.row_elements()), (30, 6));
        assert_eq!(parameter.constraint(), None);
        let constrained = parameter.with_constraint(Constraint::NonNegative);
        assert_eq!(constrained.constraint(), Some(Constraint::NonNegative));
    }

    #[test]
    fn a_list_keeps_its_order() {
        let list = list();
        let names: Vec<&str> = (&list).into_iter().map(Parameter::name).collect();
        assert_eq!(names, ["w", "b"]);
    }

    #[test]
    fn steps_are_checked_before_they_run() {
        let list = list();
        let check = |lengths: &[usize], gradients: &[Option<Gradient<'_, f32>>]| {
            list.check_step(lengths.iter().copied(), gradients)
        };
        let (w, b) =
            (Some(Gradient::Dense(&[0.0_f32; 6][..])), Some(Gradient::Dense(&[0.0; 3][..])));
        assert_eq!(check(&[6, 3], &[w, b]), Ok(()));
        assert_eq!(check(&[6, 3], &[None, b]), Ok(()));
        // Repeated rows are summed and negative ones dropped.
        let rows = Gradient::Sparse { indices: &[1, -3, 1], values: &[0.0; 9] };
        assert_eq!(check(&[6, 3], &[Some(rows), None]), Ok(()));
        assert!(matches!(check(&[6], &[w, b]), Err(Error::Count { .. })));
        assert!(matches!(check(&[6, 3], &[w]), Err(Error::Count { .. })));
        assert!(matches!(check(&[6, 4], &[w, b]), Err(Error::Length { .. })));
        assert!(matches!(check(&[6, 3], &[b, w]), Err(Error::Length { .. })));
        assert_eq!(check(&[6, 3], &[None, None]), Err(Error::NoGradients { parameters: 2 }));
    }

    #[test]
    fn a_second_exclusion_replaces_the_first() {
        let mut list = list();
        list.exclude_from_weight_decay(&["^w$"]).unwrap();
        assert!(!list[0].decays() && list[1].decays());
        list.exclude_from_weight_decay(&["b"]).unwrap();
        assert!(list[0].decays() && !list[1].decays());
        let error = list.exclude_from_weight_decay(&["b", "("]).unwrap_err();
        assert!(matches!(&error, Error::Pattern { pattern, .. } if pattern == "("), "{error}");
        assert!(list[0].decays() && !list[1].decays());
    }

    #[test]
    fn who_is_exempt_stays_so_whatever_the_patterns_say() {
        let parameter = |name| Parameter::new(name, &[2]).unwrap();
        let list = vec![parameter("embedding").without_weight_decay(), parameter("bias")];
        let mut list = ParameterList::new(list).unwrap();
        for (patterns, bias) in [(&["bias"][..], false), (&[], true)] {
            list.exclude_from_weight_decay(patterns).unwrap();
            assert_eq!([list[0].decays(), list[1].decays()], [false, bias]);
        }
        assert_ne!(list[0], parameter("embedding"));
        list.exclude_from_weight_decay(&["bias"]).unwrap();
        assert_eq!(list[1], parameter("bias").without_weight_decay());
    }
}
