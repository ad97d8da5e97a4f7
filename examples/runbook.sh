#!/bin/sh
# The whole trip as a shell script: out to the target, the maintenance on the source, and home.
#
#   runbook.sh out                            copy the source, limit what must not change, move traffic to the target
#   runbook.sh maintain psql -f work.sql …    run a command on the source, but only while the target serves
#   runbook.sh home                           bring what was written meanwhile to the source, and traffic with it
#
# PGDETOUR_CONFIG names the configuration. Each part may be run again: what is done is not done twice, and what was
# cut short goes on. Exit codes are pgdetour's: 2 and 3 mean correct it and run it again, 8 means call a person.
set -eu

pgdetour=${PGDETOUR:-pgdetour}
attempts=${ATTEMPTS:-5}
pause=${PAUSE:-10}

say() { printf '%s %s\n' "$(date -u +%H:%M:%SZ)" "$*" >&2; }

# Where the detour is: one word of pgdetour's document. Ends this script where it cannot be told.
find_phase() {
    document=$("$pgdetour" status --json --quiet) || exit $?
    phase=$(printf '%s\n' "$document" | sed -n 's/.*"phase":"\([a-z_]*\)","serving".*/\1/p')
}

# Runs one step, again after exit codes that ask for it; any other failure ends this script with the same code.
step() {
    attempt=1
    while :; do
        code=0
        "$pgdetour" "$@" --yes || code=$?
        case $code in
            0) return ;;
            4) why='another run is at work' ;;
            5) why='a server or the router is out of reach' ;;
            6) why='it took too long, and was taken back' ;;
            7) why='it stopped part way' ;;
            *)
                say "pgdetour $1 ended with $code"
                exit "$code"
                ;;
        esac
        if [ "$attempt" -ge "$attempts" ]; then
            say "pgdetour $1: $why, $attempts times"
            exit "$code"
        fi
        attempt=$((attempt + 1))
        say "pgdetour $1: $why; again in $pause s"
        sleep "$pause"
    done
}

out() {
    find_phase
    case $phase in
        absent)
            step check
            step mirror
            step restrict
            ;;
        mirroring)
            step mirror
            step restrict
            ;;
        mirrored) step restrict ;;
        cutting_over) ;;
        detoured)
            say 'traffic is on the target already'
            return
            ;;
        *)
            say "nothing leads out from phase \"$phase\""
            exit 3
            ;;
    esac
    step cutover
    say 'traffic is on the target: maintain the source'
}

maintain() {
    find_phase
    if [ "$phase" != detoured ]; then
        say "the target does not serve in phase \"$phase\""
        exit 3
    fi
    "$@"
}

home() {
    find_phase
    case $phase in
        detoured) step replay ;;
        cutting_back) ;;
        returned)
            say 'traffic is home already'
            return
            ;;
        *)
            say "nothing leads home from phase \"$phase\""
            exit 3
            ;;
    esac
    step cutback
    say 'traffic is home; when you are content, run: pgdetour clean'
}

case ${1-} in
    out) out ;;
    maintain)
        shift
        maintain "$@"
        ;;
    home) home ;;
    *)
        sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
