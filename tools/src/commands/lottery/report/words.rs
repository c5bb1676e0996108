//! What a report says by itself, in Chinese and in English.

use cairn_proto::v1::{LotteryStage, Role, RulingDecision};

/// The same in both languages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Both {
    pub zh: String,
    pub en: String,
}

impl Both {
    /// The same in both languages.
    pub fn of(zh: impl Into<String>, en: impl Into<String>) -> Both {
        Both {
            zh: zh.into(),
            en: en.into(),
        }
    }
}

/// How far a lottery is.
pub fn stage(stage: LotteryStage) -> Both {
    match stage {
        LotteryStage::Unspecified => Both::of("未知", "unknown"),
        LotteryStage::Open => Both::of("登记中", "open: rows are registered"),
        LotteryStage::Frozen => Both::of("名册已冻结", "frozen: the roster is fixed"),
        LotteryStage::Contributing => Both::of("提交种子中", "contributing to the seed"),
        LotteryStage::Drawing => Both::of("已抽签，公布中", "drawn, being published"),
        LotteryStage::Complete => Both::of("已全部公布", "complete: all is published"),
        LotteryStage::Certified => Both::of("已公证", "certified by the notary"),
        LotteryStage::Voided => Both::of("已作废", "voided"),
    }
}

/// What an institution or an office is.
pub fn role(role: Role) -> Both {
    match role {
        Role::Unspecified => Both::of("无", "no role"),
        Role::Notary => Both::of("公证机构", "notary"),
        Role::Government => Both::of("政府部门", "government"),
        Role::Institute => Both::of("研究机构", "institute"),
        Role::Organiser => Both::of("主办方", "organiser"),
        Role::Registrar => Both::of("登记方", "registrar"),
        Role::Authority => Both::of("主管机关", "authority"),
        Role::Health => Both::of("卫生部门", "health"),
        Role::PointOfSale => Both::of("销售点", "point of sale"),
    }
}

/// What was said to an objection.
pub fn decision(decision: RulingDecision) -> Both {
    match decision {
        RulingDecision::Unspecified => Both::of("待裁定", "waits for a ruling"),
        RulingDecision::Dismissed => Both::of("驳回", "dismissed"),
        RulingDecision::Upheld => Both::of("成立", "upheld"),
    }
}

/// Yes or no.
pub fn yes(holds: bool) -> Both {
    match holds {
        true => Both::of("是", "yes"),
        false => Both::of("否", "no"),
    }
}

/// A span of time in its largest whole unit.
pub fn duration(ms: u64) -> Both {
    let units = [
        (86_400_000, "天", "days"),
        (3_600_000, "小时", "hours"),
        (60_000, "分钟", "minutes"),
        (1_000, "秒", "seconds"),
    ];
    let whole = units
        .iter()
        .find(|(unit, _, _)| ms >= *unit && ms.is_multiple_of(*unit));
    let (number, zh, en) = whole.map_or((ms, "毫秒", "milliseconds"), |(unit, zh, en)| {
        (ms / unit, *zh, *en)
    });
    Both::of(format!("{number} {zh}"), format!("{number} {en}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_their_largest_whole_unit() {
        let told: Vec<String> = [7 * 86_400_000, 90_000, 1_500, 0]
            .map(|ms| duration(ms).en)
            .to_vec();
        assert_eq!(
            told,
            [
                "7 days",
                "90 seconds",
                "1500 milliseconds",
                "0 milliseconds"
            ]
        );
        assert_eq!(duration(600_000).zh, "10 分钟");
    }
}
