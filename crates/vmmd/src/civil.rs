//! Dates and seconds, in the Gregorian calendar, without time zones or leap seconds.
//!
//! A *civil second* counts from 1970-01-01 00:00:00 as the clock on the wall shows it, wherever the wall is. What a
//! register can hold but a calendar has not (month 13, the 31st of February) runs on into the next month or year, as it
//! does in QEMU.

/// A date and a time of day. The fields may be out of range; see the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Civil {
    /// Counted from the year 0.
    pub(crate) year: i64,
    /// 1 to 12.
    pub(crate) month: i64,
    /// 1 to 31.
    pub(crate) day: i64,
    /// 0 to 23.
    pub(crate) hour: i64,
    /// 0 to 59.
    pub(crate) minute: i64,
    /// 0 to 59.
    pub(crate) second: i64,
}

const DAY: i64 = 86_400;
/// Days in 400 years, after which the calendar repeats.
const ERA: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH: i64 = 719_468;

impl Civil {
    /// The civil second of this date.
    pub(crate) fn seconds(self) -> i64 {
        // Years begin in March here, so that the leap day is their last.
        let months = self.year * 12 + self.month - 3;
        let (year, month) = (months.div_euclid(12), months.rem_euclid(12));
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let day_of_year = (153 * month + 2) / 5 + self.day - 1;
        let days = era * ERA + of_era * 365 + of_era / 4 - of_era / 100 + day_of_year - EPOCH;
        days * DAY + self.hour * 3600 + self.minute * 60 + self.second
    }

    /// The date of a civil second, all fields in range.
    pub(crate) fn of(seconds: i64) -> Self {
        let (days, time) = (seconds.div_euclid(DAY) + EPOCH, seconds.rem_euclid(DAY));
        let (era, day) = (days.div_euclid(ERA), days.rem_euclid(ERA));
        let of_era = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day_of_year = day - (365 * of_era + of_era / 4 - of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let (month, january_or_later) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
        Self {
            year: era * 400 + of_era + january_or_later,
            month,
            day: day_of_year - (153 * ((month + 9) % 12) + 2) / 5 + 1,
            hour: time / 3600,
            minute: time / 60 % 60,
            second: time % 60,
        }
    }

    /// 1 (Sunday) to 7 (Saturday).
    pub(crate) fn weekday(self) -> i64 {
        (self.seconds().div_euclid(DAY) + 4).rem_euclid(7) + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn date(year: i64, month: i64, day: i64) -> Civil {
        Civil { year, month, day, hour: 0, minute: 0, second: 0 }
    }

    #[test]
    fn known_dates() {
        assert_eq!(date(1970, 1, 1).seconds(), 0);
        assert_eq!(date(2000, 2, 29).seconds(), 951_782_400);
        assert_eq!(date(1969, 12, 31).seconds(), -DAY);
        assert_eq!(Civil::of(1_150_560_081), Civil { hour: 16, minute: 1, second: 21, ..date(2006, 6, 17) });
        assert_eq!(date(1970, 1, 1).weekday(), 5);
        assert_eq!(date(2024, 2, 29).weekday(), 5);
    }

    #[test]
    fn what_no_calendar_has_runs_on() {
        assert_eq!(date(2023, 2, 31).seconds(), date(2023, 3, 3).seconds());
        assert_eq!(date(2023, 13, 1).seconds(), date(2024, 1, 1).seconds());
        assert_eq!(date(2023, 0, 1).seconds(), date(2022, 12, 1).seconds());
    }

    proptest! {
        #[test]
        fn there_and_back(seconds in -100_000_000_000i64..700_000_000_000) {
            let civil = Civil::of(seconds);
            prop_assert_eq!(civil.seconds(), seconds);
            prop_assert!((1..=12).contains(&civil.month) && (1..=31).contains(&civil.day));
        }

        #[test]
        fn days_follow_each_other(seconds in -100_000_000_000i64..700_000_000_000) {
            let (today, tomorrow) = (Civil::of(seconds), Civil::of(seconds + DAY));
            prop_assert_eq!(tomorrow.weekday(), today.weekday() % 7 + 1);
            prop_assert!(tomorrow.day == today.day + 1 || tomorrow.day == 1);
        }
    }
}
