//! Lists of parameters, and what a step is given.

use goldstep_core::{Error, Gradient, Parameter, ParameterList};

use crate::Bad;

fn list(names: &[(&str, &[usize])]) -> Result<ParameterList, Error> {
    let parameters = names.iter().map(|(name, shape)| Parameter::new(*name, shape));
    ParameterList::new(parameters.collect::<Result<_, _>>()?)
}

fn exclude(patterns: &[&str]) -> Result<(), Error> {
    list(&[("w", &[2, 3])])?.exclude_from_weight_decay(patterns)
}

/// A step over `w` of shape [2, 3], `b` of shape [3] and the scalar `s`.
fn step(lengths: &[usize], gradients: &[Option<Gradient<'_, f32>>]) -> Result<(), Error> {
    let list = list(&[("w", &[2, 3]), ("b", &[3]), ("s", &[])])?;
    list.check_step(lengths.iter().copied(), gradients)
}

fn dense(elements: &'static [f32]) -> Option<Gradient<'static, f32>> {
    Some(Gradient::Dense(elements))
}

fn rows(indices: &'static [i64], values: &'static [f32]) -> Option<Gradient<'static, f32>> {
    Some(Gradient::Sparse { indices, values })
}

/// Lists that no optimizer is built for.
pub(crate) const LISTS: &[Bad] = &[
    Bad {
        name: "empty",
        attempt: || list(&[]).map(drop),
        message: "parameter list must hold at least one parameter, got none",
        keras_type: "ValueError",
    },
    Bad {
        name: "repeated",
        attempt: || list(&[("w", &[1]), ("b", &[1]), ("w", &[2])]).map(drop),
        message: "parameter names must be unique, got w twice",
        keras_type: "ValueError",
    },
    Bad {
        name: "shape-overflow",
        attempt: || list(&[("w", &[usize::MAX, 2])]).map(drop),
        message: "shape of w must have a size below 2^63 bytes, got [18446744073709551615, 2]",
        keras_type: "ValueError",
    },
    Bad {
        name: "shape-overflow-of-an-empty-tensor",
        attempt: || list(&[("w", &[1 << 40, 1 << 40, 0])]).map(drop),
        message: "shape of w must have a size below 2^63 bytes, got [1099511627776, 1099511627776, 0]",
        keras_type: "ValueError",
    },
    Bad {
        name: "pattern-open",
        attempt: || exclude(&["b", "("]),
        message: "weight decay exclusion must be a regular expression, got (: unclosed group",
        keras_type: "error",
    },
    Bad {
        name: "pattern-nothing-to-repeat",
        attempt: || exclude(&["*w"]),
        message: "weight decay exclusion must be a regular expression, got *w: repetition operator missing expression",
        keras_type: "error",
    },
];

/// What a planned step refuses; that nothing was written then is tested with each backend.
pub(crate) const STEPS: &[Bad] = &[
    Bad {
        name: "parameters-too-few",
        attempt: || step(&[6, 3], &[None, dense(&[0.0; 3]), None]),
        message: "number of parameters must be 3, got 2",
        keras_type: "ValueError",
    },
    Bad {
        name: "parameters-too-many",
        attempt: || step(&[6, 3, 1, 1], &[None, dense(&[0.0; 3]), None]),
        message: "number of parameters must be 3, got 4",
        keras_type: "ValueError",
    },
    Bad {
        name: "parameter-longer",
        attempt: || step(&[6, 4, 1], &[None, dense(&[0.0; 3]), None]),
        message: "parameter of b must have 3 elements, got 4",
        keras_type: "InvalidArgumentError",
    },
    Bad {
        name: "parameters-permuted",
        attempt: || step(&[3, 6, 1], &[None, dense(&[0.0; 3]), None]),
        message: "parameter of w must have 6 elements, got 3",
        keras_type: "InvalidArgumentError",
    },
    Bad {
        name: "gradients-none-at-all",
        attempt: || step(&[6, 3, 1], &[]),
        message: "number of gradients must be 3, got 0",
        keras_type: "ValueError",
    },
    Bad {
        name: "gradients-too-many",
        attempt: || step(&[6, 3, 1], &[None, None, dense(&[0.0]), None]),
        message: "number of gradients must be 3, got 4",
        keras_type: "ValueError",
    },
    Bad {
        name: "gradient-shorter",
        attempt: || step(&[6, 3, 1], &[dense(&[0.0; 5]), None, None]),
        message: "gradient of w must have 6 elements, got 5",
        keras_type: "InvalidArgumentError",
    },
    Bad {
        name: "gradient-of-one-element",
        attempt: || step(&[6, 3, 1], &[None, dense(&[0.0]), None]),
        message: "gradient of b must have 3 elements, got 1",
        keras_type: "InvalidArgumentError",
    },
    Bad {
        name: "gradients-all-missing",
        attempt: || step(&[6, 3, 1], &[None, None, None]),
        message: "at least one parameter must have a gradient, got none of 3",
        keras_type: "ValueError",
    },
    Bad {
        name: "row-beyond",
        attempt: || step(&[6, 3, 1], &[rows(&[0, 2], &[0.0; 6]), None, None]),
        message: "row indices of w must be below 2, got 2",
        keras_type: "InvalidArgumentError",
    },
    Bad {
        name: "rows-shorter",
        attempt: || step(&[6, 3, 1], &[rows(&[0, 1], &[0.0; 5]), None, None]),
        message: "gradient of w must have 6 elements, got 5",
        keras_type: "InvalidArgumentError",
    },
    Bad {
        name: "rows-of-a-scalar",
        attempt: || step(&[6, 3, 1], &[None, None, rows(&[0], &[0.0])]),
        message: "gradient of s must be dense for a scalar, got rows",
        keras_type: "InvalidArgumentError",
    },
];
