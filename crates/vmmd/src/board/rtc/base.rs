//! What a clock shows that nobody has set, and how far another one is ahead of that.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::civil::Civil;
use crate::config::RtcBase;

/// The time that a machine's clock starts with, as a rule: given the host's time, the civil second that an untouched
/// clock shows.
#[derive(Debug, Clone)]
pub(crate) enum Base {
    /// As far ahead of UTC, in seconds. 0 is UTC.
    Ahead(i64),
    /// The host's local time.
    Local(TimeZone),
}

impl Base {
    /// The rule that was asked for, at a start at `host`, in seconds since 1970 UTC. Reads the host's time zone.
    pub(crate) fn new(base: RtcBase, host: i64) -> Self {
        match base {
            RtcBase::Utc => Self::Ahead(0),
            RtcBase::Localtime => Self::Local(TimeZone::system()),
            RtcBase::At(second) => Self::Ahead(second - host),
        }
    }

    /// The civil second of an untouched clock at `host`.
    pub(crate) fn civil(&self, host: i64) -> i64 {
        match self {
            Self::Ahead(ahead) => host + ahead,
            Self::Local(zone) => host + offset(zone, host),
        }
    }

    /// Whether that is the host's time of day, in some zone.
    pub(crate) fn is_hosts_time(&self) -> bool {
        matches!(self, Self::Local(_) | Self::Ahead(0))
    }

    /// How many seconds a clock that shows the civil second `shown` at `host` is ahead of an untouched one.
    ///
    /// A local time is taken for the moment at which it will be that time here, so summer time counts on the day that
    /// is shown, not today.
    pub(crate) fn ahead(&self, shown: i64, host: i64) -> i64 {
        match self {
            Self::Ahead(ahead) => shown - (host + ahead),
            Self::Local(zone) => local_moment(zone, shown).unwrap_or(shown - offset(zone, host)) - host,
        }
    }
}

/// Seconds since 1970 UTC at which the zone's clocks show this civil second. `None` where the zone knows no such year.
fn local_moment(zone: &TimeZone, shown: i64) -> Option<i64> {
    let Civil { year, month, day, hour, minute, second } = Civil::of(shown);
    let small = |field: i64| i8::try_from(field).ok();
    let local = DateTime::new(
        i16::try_from(year).ok()?,
        small(month)?,
        small(day)?,
        small(hour)?,
        small(minute)?,
        small(second)?,
        0,
    );
    let moment = zone.to_ambiguous_timestamp(local.ok()?).compatible().ok()?;
    Some(moment.as_second())
}

/// Seconds that the zone is ahead of UTC at `host`.
fn offset(zone: &TimeZone, host: i64) -> i64 {
    jiff::Timestamp::from_second(host).map_or(0, |moment| zone.to_offset(moment).seconds().into())
}

/// The host's time since 1970 UTC. A clock before that reads as 1970.
pub(crate) fn host_time() -> std::time::Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-03-04 05:06:07 UTC.
    const NOW: i64 = 1_772_600_767;

    #[test]
    fn utc_and_a_date() {
        let utc = Base::new(RtcBase::Utc, NOW);
        assert_eq!((utc.civil(NOW), utc.ahead(NOW + 9, NOW)), (NOW, 9));
        let date = Base::new(RtcBase::At(1000), NOW);
        assert_eq!(date.civil(NOW + 5), 1005);
        assert_eq!(date.ahead(1005, NOW + 5), 0);
        assert_eq!(date.ahead(1000, NOW + 5), -5);
    }

    #[test]
    fn summer_time_counts_where_it_is_shown() {
        let berlin = Base::Local(TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap());
        assert_eq!(berlin.civil(NOW), NOW + 3600);
        assert_eq!(berlin.ahead(NOW + 3600, NOW), 0);
        let months = 180 * 86_400;
        assert_eq!(berlin.ahead(NOW + 3600 + months, NOW), months - 3600);
    }

    #[test]
    fn no_year_is_too_far() {
        let local = Base::Local(TimeZone::UTC);
        for year in [-100, 0, 9999, 19_355] {
            let shown = Civil { year, ..Civil::of(NOW) }.seconds();
            assert_eq!(local.ahead(shown, NOW), shown - NOW, "{year}");
        }
    }
}
