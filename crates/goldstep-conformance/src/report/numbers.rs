//! Numbers as people read them.

use goldstep_core::{DType, Element};
use half::{bf16, f16};

/// The shortest decimal that gives the same value back in its type.
pub(crate) fn decimal(dtype: DType, value: f64) -> String {
    let (plain, scientific) = match dtype {
        DType::Float64 => (format!("{value}"), format!("{value:e}")),
        // The shortest decimal of a half is that of the same float32.
        _ => {
            let value = f32::round_from(value);
            (format!("{value}"), format!("{value:e}"))
        }
    };
    if plain.len() <= scientific.len() { plain } else { scientific }
}

/// The bits in hexadecimal.
pub(crate) fn bits(dtype: DType, value: f64) -> String {
    match dtype {
        DType::Float64 => format!("{:016x}", value.to_bits()),
        DType::Float32 => format!("{:08x}", f32::round_from(value).to_bits()),
        DType::Bfloat16 => format!("{:04x}", bf16::round_from(value).to_bits()),
        DType::Float16 => format!("{:04x}", f16::round_from(value).to_bits()),
    }
}

/// `27,648`.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// An error in its unit: three digits, or more where there are more before the point.
pub(crate) fn error(value: f64) -> String {
    if value.is_infinite() {
        return "infinite".to_owned();
    }
    match value {
        0.0..0.1 if value > 0.0 => format!("{value:.2}"),
        0.0..100.0 => format!("{value:.1}").trim_end_matches(".0").to_owned(),
        _ if value < 1e15 =>
        {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "positive and far below 2^64"
            )]
            thousands(value.round() as usize)
        }
        _ => format!("{value:.2e}"),
    }
}

/// The index of an element in its shape: `[0,2]`.
pub(crate) fn index(shape: &[usize], element: usize) -> String {
    let mut rest = element;
    let mut indices: Vec<String> = Vec::with_capacity(shape.len());
    for size in shape.iter().rev() {
        indices.push((rest % size.max(&1)).to_string());
        rest /= size.max(&1);
    }
    indices.reverse();
    format!("[{}]", indices.join(","))
}

/// A shape: `[3×2]`.
pub(crate) fn shape(shape: &[usize]) -> String {
    let sizes: Vec<String> = shape.iter().map(ToString::to_string).collect();
    format!("[{}]", sizes.join("×"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(27_648), "27,648");
        assert_eq!(thousands(648), "648");
        assert_eq!(thousands(1_000_000), "1,000,000");
        assert_eq!(error(22_133.4), "22,133");
        assert_eq!(error(10.94), "10.9");
        assert_eq!(error(24.0), "24");
        assert_eq!(error(0.0), "0");
        assert_eq!(error(0.012), "0.01");
        assert_eq!(error(f64::INFINITY), "infinite");
        assert_eq!(index(&[3, 2], 5), "[2,1]");
        assert_eq!(index(&[], 0), "[]");
        assert_eq!(shape(&[3, 2]), "[3×2]");
    }

    #[test]
    fn bits_and_decimals_follow_the_type() {
        let value = f64::from(1.311_575_4_f32);
        assert_eq!(bits(DType::Float32, value), "3fa7e1b4");
        assert_eq!(decimal(DType::Float32, value), "1.3115754");
        assert_eq!(decimal(DType::Float32, f64::from(1e-30_f32)), "1e-30");
        assert_eq!(bits(DType::Float64, 1.0), "3ff0000000000000");
        assert_eq!(bits(DType::Bfloat16, 1.0), "3f80");
        assert_eq!(bits(DType::Float16, 1.0), "3c00");
    }
}
