use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A program of these shell lines, which keeps its state in a file beside it.
fn program(lines: &str, timeout: Duration) -> (tempfile::TempDir, CommandSettings) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("move-clients");
    fs::write(&path, format!("#!/bin/sh\ncd \"$(dirname \"$0\")\" || exit 9\n{lines}\n")).expect("a file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("our own file");
    let program = vec![path.to_str().expect("a temporary path is text").to_owned(), "an argument".into()];
    (directory, CommandSettings { program, timeout })
}

const WELL: &str = r#"
echo "$PGDETOUR_ACTION $PGDETOUR_SIDE $1" >> calls
case $PGDETOUR_ACTION in
    hold) echo held > held ;;
    resume) rm -f held ;;
    point) echo "$PGDETOUR_SIDE" > side ;;
    show) cat side held 2>/dev/null || true ;;
esac
"#;

#[test]
fn the_program_is_told_the_action_and_the_side() {
    let (directory, settings) =
        program(&format!("[ -f side ] || echo source > side\n{WELL}"), Duration::from_secs(5));
    let mut router = Command::new(&settings, &Plan::real());
    let checked = router.check(Duration::from_secs(5));
    assert!(checked.failures.is_empty() && checked.warnings.is_empty(), "{checked:?}");
    router.hold(Instant::now() + Duration::from_secs(5), &|| Ok(())).expect("it holds");
    router.point_to(Side::Target).expect("it points");
    let state = router.state().expect("it shows");
    assert_eq!((state.held, state.side, state.detail), (true, Some(Side::Target), None));
    router.resume().expect("it resumes");
    router.reconnect().expect("it reconnects");
    assert!(!router.state().expect("it shows").held);
    let calls = fs::read_to_string(directory.path().join("calls")).expect("it was called");
    let calls: Vec<&str> = calls.lines().filter(|call| !call.starts_with("show")).collect();
    let expected = ["check ", "hold ", "point target", "resume ", "reconnect "];
    assert_eq!(calls, expected.map(|call| format!("{call} an argument")));
}

#[test]
fn a_program_that_fails_is_quoted() {
    let (_directory, settings) = program("echo no such pool >&2; exit 3", Duration::from_secs(5));
    let mut router = Command::new(&settings, &Plan::real());
    let error = router.point_to(Side::Target).expect_err("it fails");
    assert!(error.to_string().ends_with("exit status: 3: no such pool"), "{error}");
    assert_eq!(router.check(Duration::from_secs(5)).failures.len(), 1);
    let (_directory, settings) = program("echo north", Duration::from_secs(5));
    let error = Command::new(&settings, &Plan::real()).state().expect_err("north is no side");
    assert!(error.to_string().ends_with("it printed \"north\""), "{error}");
    let missing =
        CommandSettings { program: vec!["/nowhere/program".into()], timeout: Duration::from_secs(5) };
    let error = Command::new(&missing, &Plan::real()).resume().expect_err("there is no such program");
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[test]
fn a_program_that_hangs_is_ended_with_what_it_started() {
    let lines = "[ $PGDETOUR_ACTION = hold ] || { echo $PGDETOUR_ACTION >> calls; exit 0; }
        echo working >&2; trap '' TERM; sleep 600 & echo $! > child; wait; wait";
    let (directory, settings) = program(lines, Duration::from_secs(60));
    let mut router = Command::new(&settings, &Plan::real());
    let begun = Instant::now();
    let error = router.hold(Instant::now() + Duration::from_millis(500), &|| Ok(())).expect_err("it hangs");
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
    let Error::TimedOut { detail, .. } = &error else { panic!("{error:?}") };
    assert_eq!(detail.as_deref(), Some("working"));
    let child = fs::read_to_string(directory.path().join("child")).expect("it had begun");
    let state = fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z "), "{state}");
    assert_eq!(fs::read_to_string(directory.path().join("calls")).expect("it was taken back"), "resume\n");
    let begun = Instant::now();
    let interrupted = || Err(Error::Interrupted { signal: 15 });
    let error = router.hold(begun + Duration::from_secs(60), &interrupted).expect_err("it is interrupted");
    assert!(matches!(error, Error::Interrupted { signal: 15 }), "{error:?}");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(fs::read_to_string(directory.path().join("calls")).expect("it is there"), "resume\nresume\n");
}

#[test]
fn what_a_program_leaves_running_does_not_keep_us() {
    let (_directory, settings) = program("sleep 5 & echo target", Duration::from_secs(60));
    let begun = Instant::now();
    let state = Command::new(&settings, &Plan::real()).state().expect("it ended well");
    assert_eq!(state.side, Some(Side::Target));
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[test]
fn a_dry_run_calls_nothing() {
    let (directory, settings) = program(WELL, Duration::from_secs(5));
    let plan = Plan::dry();
    let mut router = Command::new(&settings, &plan);
    router.hold(Instant::now(), &|| Ok(())).expect("it is only noted");
    router.point_to(Side::Target).expect("it is only noted");
    let actions: Vec<String> = plan.actions().into_iter().map(|action| action.action).collect();
    let call = settings.program.join(" ");
    let point = format!("PGDETOUR_ACTION=point PGDETOUR_SIDE=target {call}");
    assert_eq!(actions, [format!("PGDETOUR_ACTION=hold {call}"), point]);
    assert!(!directory.path().join("calls").exists());
}

#[test]
fn a_program_that_resumes_nobody_is_found_out() {
    let lines = WELL.replace("resume) rm -f held ;;", "resume) ;;");
    let (_directory, settings) =
        program(&format!("[ -f side ] || echo source > side\n{lines}"), Duration::from_secs(5));
    let mut router = Command::new(&settings, &Plan::real());
    router.hold(Instant::now() + Duration::from_secs(5), &|| Ok(())).expect("it holds");
    let error = router.resume().expect_err("it has done nothing");
    assert!(error.to_string().contains("show prints held"), "{error}");
}
