//! Whether the numbers of a record stand in their canonical form: see golden/README.md, "Numbers".

use goldstep_core::DType;

/// Fields whose numbers are values of the record's element type.
const TENSORS: [&str; 10] =
    ["initial", "gradients", "values", "tiled", "variables", "r", "c", "v", "ema", "finalized"];

/// The first number of a line that is not canonical, with what it should be.
///
/// The innermost key decides about the type: values of tensors have `dtype`, all others float64, in
/// which the shortest decimal of a float32 is the shortest one too.
pub(super) fn first_uncanonical(json: &str, dtype: DType) -> Option<(String, String)> {
    let bytes = json.as_bytes();
    let mut scanner = Scanner { bytes, at: 0, keys: Vec::new() };
    while scanner.at < bytes.len() {
        match bytes[scanner.at] {
            b'"' => scanner.string(json),
            b'{' => scanner.open(),
            b'}' => scanner.close(),
            b'-' | b'0'..=b'9' => {
                let token = scanner.number(json);
                let in_tensor = scanner.in_tensor();
                if !in_tensor && is_count(token) {
                    continue;
                }
                let expected = canonical(token, if in_tensor { dtype } else { DType::Float64 });
                if expected.as_deref() != Some(token) {
                    let expected = expected.unwrap_or_else(|| "a number".to_owned());
                    return Some((token.to_owned(), expected));
                }
            }
            _ => scanner.at += 1,
        }
    }
    None
}

struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The key that is current in each of the open objects.
    keys: Vec<&'a str>,
}

impl<'a> Scanner<'a> {
    fn open(&mut self) {
        self.keys.push("");
        self.at += 1;
    }

    fn close(&mut self) {
        self.keys.pop();
        self.at += 1;
    }

    /// A string; before a colon it is the current key.
    fn string(&mut self, json: &'a str) {
        let start = self.at + 1;
        self.at = start;
        while self.at < self.bytes.len() && self.bytes[self.at] != b'"' {
            self.at += if self.bytes[self.at] == b'\\' { 2 } else { 1 };
        }
        let text = json.get(start..self.at).unwrap_or_default();
        self.at += 1;
        if self.bytes.get(self.at) == Some(&b':')
            && let Some(key) = self.keys.last_mut()
        {
            *key = text;
        }
    }

    fn number(&mut self, json: &'a str) -> &'a str {
        let rest = &self.bytes[self.at..];
        let in_number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let length = rest.iter().position(|byte| !in_number(byte)).unwrap_or(rest.len());
        let token = &json[self.at..self.at + length];
        self.at += length;
        token
    }

    fn in_tensor(&self) -> bool {
        let key = self.keys.last().copied().unwrap_or_default();
        TENSORS.contains(&key)
    }
}

/// Whether this is a whole number that is written out, as counts and sizes are.
fn is_count(token: &str) -> bool {
    token.bytes().all(|byte| byte.is_ascii_digit()) && (token == "0" || !token.starts_with('0'))
}

/// The canonical decimal of the value that `token` has in a type; halves are written as float32.
fn canonical(token: &str, dtype: DType) -> Option<String> {
    let (positional, exponent, exact) = if dtype == DType::Float64 {
        let value: f64 = token.parse().ok()?;
        (value.to_string(), format!("{value:e}"), value)
    } else {
        let value: f32 = token.parse().ok()?;
        (value.to_string(), format!("{value:e}"), f64::from(value))
    };
    if positional == "-0" {
        return Some("-0.0".to_owned());
    }
    let shorter = if positional.len() <= exponent.len() { positional } else { exponent.clone() };
    Some(even_of_two(&shorter, &exponent, exact).unwrap_or(shorter))
}

/// The even one, where two decimals of that length are equally near to the value and `shortest`,
/// whose digits are those of `exponent`, is the odd one.
fn even_of_two(shortest: &str, exponent: &str, exact: f64) -> Option<String> {
    let (mantissa, power) = exponent.split_once('e')?;
    let digits = mantissa.bytes().filter(u8::is_ascii_digit).count();
    let places = i32::try_from(digits).ok()? - 1 - power.parse::<i32>().ok()?;
    // A number with so many binary places has as many decimal ones; between two decimals lies what
    // has one place more than they have.
    if binary_places(exact).max(0) != (places + 1).max(0) {
        return None;
    }
    let all = format!("{exact:.800e}");
    let digit = |byte: &u8| byte.is_ascii_digit();
    let all: Vec<u8> = all.bytes().take_while(|byte| *byte != b'e').filter(digit).collect();
    let tie = all[digits] == b'5' && all[digits + 1..].iter().all(|digit| *digit == b'0');
    let (last, even) = (mantissa.chars().last()?, all[digits - 1]);
    if !tie || even % 2 == 1 || last == char::from(even) {
        return None;
    }
    let head = shortest.find('e').unwrap_or(shortest.len());
    let at = shortest[..head].rfind(last)?;
    Some(format!("{}{}{}", &shortest[..at], char::from(even), &shortest[at + 1..]))
}

/// How many places behind the binary point a finite number has; below 0 for a multiple of 2.
fn binary_places(value: f64) -> i32 {
    let bits = value.to_bits();
    let fraction = bits & ((1 << 52) - 1);
    let exponent = i32::try_from(bits >> 52 & 0x7ff).unwrap_or_default();
    let (mantissa, exponent) =
        if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) };
    let zeros = i32::try_from(mantissa.trailing_zeros()).unwrap_or_default();
    -(exponent + zeros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(json: &str, dtype: DType) -> Option<String> {
        first_uncanonical(json, dtype).map(|(_, expected)| expected)
    }

    #[test]
    fn the_shorter_of_two_forms_is_canonical() {
        let canonical =
            r#"{"values":[[0,-0.0,0.25,1e-3,1e20,-1.3115754,100,1e3,"NaN"]],"id":"1e07"}"#;
        assert_eq!(wrong(canonical, DType::Float32), None);
        for (token, expected) in [
            ("1.0", "1"),
            ("-0", "-0.0"),
            ("0.001", "1e-3"),
            ("1e-03", "1e-3"),
            ("1000", "1e3"),
            ("0.10", "0.1"),
            ("0.10000000149011612", "0.1"),
        ] {
            let json = format!(r#"{{"values":[{token}]}}"#);
            assert_eq!(wrong(&json, DType::Float32).as_deref(), Some(expected), "{token}");
        }
    }

    #[test]
    fn of_two_equally_near_ones_the_even_is_canonical() {
        for (odd, even) in [
            ("-0.25195313", "-0.25195312"),
            ("1.5507813", "1.5507812"),
            ("-2.4414063e-4", "-2.4414062e-4"),
            ("0.047851563", "0.047851562"),
        ] {
            let odd = format!(r#"{{"values":[{odd}]}}"#);
            assert_eq!(wrong(&odd, DType::Bfloat16).as_deref(), Some(even));
            assert_eq!(wrong(&format!(r#"{{"values":[{even}]}}"#), DType::Bfloat16), None);
        }
        // Exactly between two decimals of seven digits, but it has eight of its own.
        assert_eq!(
            wrong(r#"{"values":[1.5078125,33554448,2.5e-1]}"#, DType::Float64).as_deref(),
            Some("0.25")
        );
    }

    #[test]
    fn the_key_decides_about_the_type() {
        let exact = "0.10000000149011612";
        let argument = format!(r#"{{"arguments":{{"epsilon_1":{exact}}},"initial":[0.1]}}"#);
        assert_eq!(wrong(&argument, DType::Float16), None);
        let tensor = format!(r#"{{"initial":[0.5],"r":[[{exact}]]}}"#);
        assert_eq!(wrong(&tensor, DType::Float64), None);
        assert_eq!(wrong(&tensor, DType::Float16).as_deref(), Some("0.1"));
        let nested = format!(r#"{{"gradients":[{{"indices":[2],"values":[{exact}]}}]}}"#);
        assert_eq!(wrong(&nested, DType::Float32).as_deref(), Some("0.1"));
    }

    #[test]
    fn counts_are_written_out() {
        assert_eq!(wrong(r#"{"iterations":1000,"shape":[2000]}"#, DType::Float32), None);
        assert_eq!(wrong(r#"{"iterations":01000}"#, DType::Float32).as_deref(), Some("1e3"));
        assert_eq!(wrong(r#"{"values":[1000]}"#, DType::Float32).as_deref(), Some("1e3"));
    }

    #[test]
    fn text_is_no_number() {
        let json = r#"{"comment":"1.0 \"2.0\" 1e07","message":"step 1.50"}"#;
        assert_eq!(wrong(json, DType::Float32), None);
    }
}
