//! Modes and sizes, as they are written in the configuration.

use std::str::FromStr;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

/// Permission bits, written as `"0750"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileMode(pub u32);

impl<'de> Deserialize<'de> for FileMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mode = u32::from_str_radix(&text, 8)
            .ok()
            .filter(|mode| (3..=4).contains(&text.len()) && *mode <= 0o1777);
        mode.map(Self).ok_or_else(|| D::Error::custom("a mode is three or four digits, such as \"0750\""))
    }
}

/// A number of bytes, written as `512M`, `10G` or `2T`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "a size is a number and K, M, G or T, such as 10G";
        let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or(EXPECTED)?;
        let shift = match unit {
            "K" => 10,
            "M" => 20,
            "G" => 30,
            "T" => 40,
            _ => return Err(EXPECTED),
        };
        let number: u32 = number.parse().map_err(|_| EXPECTED)?;
        u64::from(number).checked_mul(1 << shift).map(Self).ok_or(EXPECTED)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::validate::item::Item;

    #[test]
    fn sizes_and_modes_have_one_way_to_be_written() {
        assert_eq!("10G".parse(), Ok(Size(10 << 30)));
        for wrong in ["", "G", "10", "10g", "-1G", "1.5G", "99999999999T", "4294967295é"] {
            assert!(wrong.parse::<Size>().is_err(), "{wrong}");
        }
        let mode = |text: &str| toml::from_str::<Item>(&format!("directory = \"/a\"\nmode = \"{text}\""));
        assert_eq!(mode("0750").unwrap().mode, Some(FileMode(0o750)));
        for wrong in ["75", "0888", "4755", "07777"] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
    }
}
