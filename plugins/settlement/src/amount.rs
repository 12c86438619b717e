//! Exact decimals: whole numbers of 10⁻¹⁸, with bounds under which no sum can overflow.
//!
//! A decimal that floats would have to round when its digits run out, and a sum would depend on the order. Here each
//! amount that comes in is below 10¹⁴ in size, so that it has at most 32 digits; a hundred thousand of them, and the
//! difference of two such sums, stay within the 38 digits of an `i128`.

use std::{fmt, ops};

/// Digits after the point.
const SCALE: u32 = 18;
const ONE: i128 = 10_i128.pow(SCALE);
/// What comes in is below this in size.
const BOUND: i128 = 10_i128.pow(14) * ONE;
const BOUND_TEXT: &str = "must be below 10^14 in size";

/// An exact amount of something.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub(crate) struct Amount(i128);

impl Amount {
    pub(crate) const ZERO: Self = Self(0);

    /// Reads digits with an optional sign `-` and an optional point; no exponent.
    ///
    /// # Errors
    /// What is wrong with the text, as a clause for a person.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let malformed = || format!("`{text:.40}` is no decimal number: write digits with one point at most, such as \"12.5\"");
        let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
        let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !is_number(whole) || !is_number(fraction) {
            return Err(malformed());
        }
        let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
        if fraction.len() > SCALE as usize {
            return Err(format!("has more than {SCALE} decimals"));
        }
        if whole.len() > 14 {
            return Err(BOUND_TEXT.to_owned());
        }
        let units: i128 = format!("0{whole}{fraction:0<width$}", width = SCALE as usize)
            .parse()
            .map_err(|_| malformed())?;
        Ok(Self(if negative { -units } else { units }))
    }

    /// The exact product.
    ///
    /// # Errors
    /// Where it is too large or has more decimals than an amount can have: it is never rounded.
    pub(crate) fn times(self, other: Self) -> Result<Self, String> {
        let ((one, one_scale), (other, other_scale)) = (self.shortest(), other.shortest());
        let scale = one_scale + other_scale;
        let Some(missing) = SCALE.checked_sub(scale) else {
            return Err(format!("has {scale} decimals; {SCALE} are exact here"));
        };
        one.checked_mul(other)
            .and_then(|product| product.checked_mul(10_i128.pow(missing)))
            .filter(|units| units.abs() < BOUND)
            .map(Self)
            .ok_or_else(|| BOUND_TEXT.to_owned())
    }

    /// Without the zeros at the end: digits, and how many of them are after the point.
    fn shortest(self) -> (i128, u32) {
        let (mut digits, mut scale) = (self.0, SCALE);
        while scale > 0 && digits % 10 == 0 {
            digits /= 10;
            scale -= 1;
        }
        (digits, scale)
    }

    pub(crate) fn is_positive(self) -> bool {
        self.0 > 0
    }
}

impl fmt::Display for Amount {
    /// The one shortest text: `-1250.5`, `3`, `0`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (digits, scale) = self.shortest();
        if scale == 0 {
            return write!(formatter, "{digits}");
        }
        let sign = if digits < 0 { "-" } else { "" };
        let unit = 10_u128.pow(scale);
        let digits = digits.unsigned_abs();
        write!(
            formatter,
            "{sign}{}.{:0>width$}",
            digits / unit,
            digits % unit,
            width = scale as usize
        )
    }
}

impl ops::Neg for Amount {
    type Output = Self;

    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl ops::Sub for Amount {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn amount(text: &str) -> Amount {
        Amount::parse(text).unwrap()
    }

    #[test]
    fn texts_are_read_and_written_in_one_form() {
        for (text, expected) in [
            ("0", "0"),
            ("-0.00", "0"),
            ("007.50", "7.5"),
            ("-1250.05", "-1250.05"),
            ("0.000000000000000001", "0.000000000000000001"),
            ("-0.5", "-0.5"),
            ("99999999999999.999999999999999999", "99999999999999.999999999999999999"),
        ] {
            assert_eq!(amount(text).to_string(), expected);
        }
    }

    #[test]
    fn what_is_no_plain_decimal_is_refused() {
        for text in ["", "-", ".5", "5.", "1e5", "+5", "1,000", "NaN", "--1", "1.2.3", " 1", "٣"] {
            assert!(Amount::parse(text).unwrap_err().contains("no decimal number"), "{text}");
        }
        assert!(Amount::parse("0.0000000000000000001").unwrap_err().contains("18 decimals"));
        assert!(Amount::parse("100000000000000").unwrap_err().contains("10^14"));
    }

    #[test]
    fn a_product_is_exact_or_refused() {
        assert_eq!(amount("33").times(amount("1.3333")).unwrap(), amount("43.9989"));
        assert_eq!(
            amount("0.000000001").times(amount("0.000000001")).unwrap(),
            amount("0.000000000000000001")
        );
        assert!(
            amount("0.0000000001")
                .times(amount("0.000000001"))
                .unwrap_err()
                .contains("19 decimals")
        );
        assert!(amount("10000000").times(amount("10000000")).unwrap_err().contains("10^14"));
        let most = amount("99999999999999");
        assert!(most.times(most).unwrap_err().contains("10^14"));
        let longest = amount("99999999999999.999999999999999999");
        assert!(longest.times(longest).is_err());
    }

    proptest! {
        #[test]
        fn every_amount_survives_its_text(units in -BOUND + 1..BOUND) {
            prop_assert_eq!(Amount::parse(&Amount(units).to_string()), Ok(Amount(units)));
        }

        #[test]
        fn cents_multiply_as_whole_numbers_do(quantity in 1..1_000_000_i64, cents in 1..1_000_000_i64) {
            let price = amount(&format!("{}.{:02}", cents / 100, cents % 100));
            let product = i128::from(quantity) * i128::from(cents);
            prop_assert_eq!(amount(&quantity.to_string()).times(price), Ok(Amount(product * (ONE / 100))));
        }
    }
}
