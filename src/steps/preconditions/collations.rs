//! Whether both servers put text into the same order: their libraries differ with the operating system.

use crate::error::{Checked, Result};
use crate::pg::catalog::collations::{Sorting, find_version, list_sorting};
use crate::phase::Side;
use crate::steps::Run;
use crate::steps::mirror::inventory::name_some;

/// What orders text is of the same version on both sides, and the one that made the source's indexes.
pub fn collation_versions(run: &mut Run, checked: &mut Checked) -> Result<()> {
    for sorting in list_sorting(run.source())? {
        let [source, target] =
            [Side::Source, Side::Target].map(|side| find_version(run.session(side), &sorting));
        compare(&sorting, source?.as_deref(), target?.as_deref(), checked);
    }
    Ok(())
}

fn compare(sorting: &Sorting, source: Option<&str>, target: Option<&str>, checked: &mut Checked) {
    let relations = name_some(sorting.relations.iter().map(String::as_str));
    let what = sorting.display();
    if let (Some(recorded), Some(source)) = (sorting.recorded.as_deref(), source)
        && recorded != source
    {
        let message =
            format!("collation {what} was made for version {recorded}, and the source's library is {source}");
        let hint = "What it orders may be in the wrong order on the source already, and hide duplicates that the copy \
                    finds: REINDEX there, then ALTER COLLATION … REFRESH VERSION (or ALTER DATABASE … REFRESH COLLATION \
                    VERSION).";
        checked.warn("collation_version", &relations, message, hint);
    }
    if let (Some(source), Some(target)) = (source, target)
        && source != target
    {
        let message =
            format!("collation {what} is version {source} on the source and {target} on the target");
        let hint = "Indexes are built anew on the target, and fit there; but ORDER BY may give another order while it \
                    serves, and range partitions and CHECK constraints over text may refuse rows.";
        checked.warn("collation_version", &relations, message, hint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_that_differ_are_told_with_what_they_order_and_unknown_ones_are_not() {
        let sorting = Sorting {
            provider: "i".into(),
            locale: "de".into(),
            recorded: Some("153.112".into()),
            relations: vec!["public.names".into()],
        };
        let told = |source, target| {
            let mut checked = Checked::default();
            compare(&sorting, source, target, &mut checked);
            checked.warnings.into_iter().map(|found| (found.object, found.message)).collect::<Vec<_>>()
        };
        assert!(told(None, Some("153.120")).is_empty());
        assert!(told(Some("153.112"), Some("153.112")).is_empty());
        let (object, message) = told(Some("153.112"), Some("153.120")).remove(0);
        assert_eq!(object, "public.names");
        assert_eq!(
            message,
            "collation \"de\" of ICU is version 153.112 on the source and 153.120 on the target"
        );
        let (_, message) = told(Some("153.120"), Some("153.120")).remove(0);
        assert!(message.contains("was made for version 153.112"), "{message}");
    }
}
