# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_pgdetour_global_optspecs
    string join \n c/config= source= target= json dry-run y/yes q/quiet v/verbose h/help V/version
end

function __fish_pgdetour_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_pgdetour_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_pgdetour_using_subcommand
    set -l cmd (__fish_pgdetour_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c pgdetour -n "__fish_pgdetour_needs_command" -s c -l config -d 'Configuration file [default: pgdetour.toml]' -r -F
complete -c pgdetour -n "__fish_pgdetour_needs_command" -l source -d 'How to reach the source, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_needs_command" -l target -d 'How to reach the target, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_needs_command" -l json -d 'Write one JSON document to standard output; messages go to standard error'
complete -c pgdetour -n "__fish_pgdetour_needs_command" -l dry-run -d 'Show every statement and router action in order, and change nothing'
complete -c pgdetour -n "__fish_pgdetour_needs_command" -s y -l yes -d 'Answer the confirmation with yes'
complete -c pgdetour -n "__fish_pgdetour_needs_command" -s q -l quiet -d 'Show no progress'
complete -c pgdetour -n "__fish_pgdetour_needs_command" -s v -l verbose -d 'Show more of what is done'
complete -c pgdetour -n "__fish_pgdetour_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgdetour -n "__fish_pgdetour_needs_command" -s V -l version -d 'Print version'
complete -c pgdetour -n "__fish_pgdetour_needs_command" -f -a "check" -d 'Check every precondition of every later step; changes nothing'
complete -c pgdetour -n "__fish_pgdetour_needs_command" -f -a "mirror" -d 'Copy the source to the target and keep the copy current'
complete -c pgdetour -n "__fish_pgdetour_needs_command" -f -a "restrict" -d 'Limit access to designated tables on the target'
complete -c pgdetour -n "__fish_pgdetour_needs_command" -f -a "capture" -d 'Arm the recording of changes made on the target'
complete -c pgdetour -n "__fish_pgdetour_needs_command" -f -a "cutover" -d 'Move general traffic to the target'
complete -c pgdetour -n "__fish_pgdetour_needs_command" -f -a "replay" -d 'Apply the changes made on the target to the source'
complete -c pgdetour -n "__fish_pgdetour_needs_command" -f -a "cutback" -d 'Move general traffic home'
complete -c pgdetour -n "__fish_pgdetour_needs_command" -f -a "verify" -d 'Compare both sides'
complete -c pgdetour -n "__fish_pgdetour_needs_command" -f -a "status" -d 'Show where the detour is, who serves, and what may be run next'
complete -c pgdetour -n "__fish_pgdetour_needs_command" -f -a "clean" -d 'Remove every object that pgdetour made'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand check" -l role -d 'The role, when it is not the one that connects; it need not exist yet' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand check" -l side -d 'Only for one side' -r -f -a "source\t'The database that is to be maintained'
target\t'The one that serves meanwhile'
backup\t'The one between both, where there is one'"
complete -c pgdetour -n "__fish_pgdetour_using_subcommand check" -s c -l config -d 'Configuration file [default: pgdetour.toml]' -r -F
complete -c pgdetour -n "__fish_pgdetour_using_subcommand check" -l source -d 'How to reach the source, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand check" -l target -d 'How to reach the target, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand check" -l grants -d 'Write the SQL that gives a role what the trip needs, instead of checking'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand check" -l json -d 'Write one JSON document to standard output; messages go to standard error'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand check" -l dry-run -d 'Show every statement and router action in order, and change nothing'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand check" -s y -l yes -d 'Answer the confirmation with yes'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand check" -s q -l quiet -d 'Show no progress'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand check" -s v -l verbose -d 'Show more of what is done'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand check" -s V -l version -d 'Print version'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand mirror" -s j -l jobs -d 'Connections that copy at the same time, instead of mirror.jobs' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand mirror" -s t -l table -d 'With --again: copy only tables that match, as psql\'s \\d takes it; may be given more than once' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand mirror" -l max-rate -d 'Read the source no faster than this while copying, such as 50MB/s' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand mirror" -l max-load -d 'Pause the copy while the source is busier than this: active=N sessions that run something, standby-lag=DURATION of any of its standbys, or both with a comma between them' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand mirror" -s c -l config -d 'Configuration file [default: pgdetour.toml]' -r -F
complete -c pgdetour -n "__fish_pgdetour_using_subcommand mirror" -l source -d 'How to reach the source, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand mirror" -l target -d 'How to reach the target, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand mirror" -l follow -d 'Stay in the foreground and keep the target current, without a subscription, until interrupted'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand mirror" -l stop -d 'End a copy or a flow of the mirror, wherever it runs, at a safe place; mirror goes on from there'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand mirror" -l again -d 'Copy the tables of --table anew, in a mirror that stands'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand mirror" -l json -d 'Write one JSON document to standard output; messages go to standard error'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand mirror" -l dry-run -d 'Show every statement and router action in order, and change nothing'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand mirror" -s y -l yes -d 'Answer the confirmation with yes'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand mirror" -s q -l quiet -d 'Show no progress'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand mirror" -s v -l verbose -d 'Show more of what is done'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand mirror" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand mirror" -s V -l version -d 'Print version'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand restrict" -s c -l config -d 'Configuration file [default: pgdetour.toml]' -r -F
complete -c pgdetour -n "__fish_pgdetour_using_subcommand restrict" -l source -d 'How to reach the source, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand restrict" -l target -d 'How to reach the target, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand restrict" -l lift -d 'Remove the limits instead, the limited role and what --observe has made; with --observe, only the latter'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand restrict" -l observe -d 'Refuse nothing: count on the side that serves what would be refused'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand restrict" -l report -d 'Show what --observe has counted, by table, role and application'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand restrict" -l json -d 'Write one JSON document to standard output; messages go to standard error'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand restrict" -l dry-run -d 'Show every statement and router action in order, and change nothing'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand restrict" -s y -l yes -d 'Answer the confirmation with yes'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand restrict" -s q -l quiet -d 'Show no progress'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand restrict" -s v -l verbose -d 'Show more of what is done'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand restrict" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand restrict" -s V -l version -d 'Print version'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand capture" -l export -d 'Write the changes that are recorded by now as lines of JSON, "-" to standard output; they stay recorded' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand capture" -s c -l config -d 'Configuration file [default: pgdetour.toml]' -r -F
complete -c pgdetour -n "__fish_pgdetour_using_subcommand capture" -l source -d 'How to reach the source, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand capture" -l target -d 'How to reach the target, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand capture" -l force -d 'Overwrite the file if it exists'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand capture" -l anew -d 'While the target serves, begin recording anew, and make the source equal to the target'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand capture" -l adopt-source -d 'Take on a source that does not know of the detour, such as one that was restored without schema "pgdetour"'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand capture" -l json -d 'Write one JSON document to standard output; messages go to standard error'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand capture" -l dry-run -d 'Show every statement and router action in order, and change nothing'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand capture" -s y -l yes -d 'Answer the confirmation with yes'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand capture" -s q -l quiet -d 'Show no progress'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand capture" -s v -l verbose -d 'Show more of what is done'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand capture" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand capture" -s V -l version -d 'Print version'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutover" -l max-pause -d 'How long clients may be held; longer, and all is taken back' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutover" -l max-lag -d 'How far behind the flow may be when clients are held' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutover" -l drain-timeout -d 'How long to wait, with clients still served, until the flow is no further behind than that' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutover" -l terminate-after -d 'End transactions of general traffic that are still open this long after clients are held [default: wait]' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutover" -l retries -d 'How often to try again after one of these bounds was exceeded and all was taken back' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutover" -s c -l config -d 'Configuration file [default: pgdetour.toml]' -r -F
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutover" -l source -d 'How to reach the source, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutover" -l target -d 'How to reach the target, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutover" -l rehearse -d 'Do everything up to the point of no return, then take it back; tells the pause to expect'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutover" -l no-hold -d 'Rehearse what can be done without holding clients'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutover" -l prewarm -d 'Load tables and indexes into the caches of the side that takes over first, by extension `pg_prewarm`'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutover" -l json -d 'Write one JSON document to standard output; messages go to standard error'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutover" -l dry-run -d 'Show every statement and router action in order, and change nothing'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutover" -s y -l yes -d 'Answer the confirmation with yes'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutover" -s q -l quiet -d 'Show no progress'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutover" -s v -l verbose -d 'Show more of what is done'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutover" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutover" -s V -l version -d 'Print version'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand replay" -l max-lag -d 'How far behind that may be: WAL in bytes, or the age of the oldest change that is not applied' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand replay" -l sample -d 'Try only so many rows of each table; foreign keys between these tables are not looked at then' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand replay" -l quarantine -d 'Show the changes that were set aside, try them again, or give them up; nothing else is applied' -r -f -a "list\t'Show them, each with why it does not fit'
retry\t'Apply those that fit by now, in their order'
skip\t'Give them up: the source never gets them'"
complete -c pgdetour -n "__fish_pgdetour_using_subcommand replay" -l id -d 'Only the change of this number' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand replay" -l after -d 'With --quarantine list: only the changes behind this number, since a thousand are shown at once' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand replay" -s c -l config -d 'Configuration file [default: pgdetour.toml]' -r -F
complete -c pgdetour -n "__fish_pgdetour_using_subcommand replay" -l source -d 'How to reach the source, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand replay" -l target -d 'How to reach the target, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand replay" -l follow -d 'Stay in the foreground and apply changes as they come until interrupted'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand replay" -l until-caught-up -d 'Apply changes as they come until the source is no further behind than --max-lag, then end'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand replay" -l lint -d 'Show what becomes of each captured column on the source, and propose [[map]] text; nothing is applied'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand replay" -l rehearse -d 'Try [[map]] on the rows that the target has now, and show which would not fit; nothing is applied or kept'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand replay" -l json -d 'Write one JSON document to standard output; messages go to standard error'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand replay" -l dry-run -d 'Show every statement and router action in order, and change nothing'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand replay" -s y -l yes -d 'Answer the confirmation with yes'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand replay" -s q -l quiet -d 'Show no progress'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand replay" -s v -l verbose -d 'Show more of what is done'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand replay" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand replay" -s V -l version -d 'Print version'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutback" -l max-pause -d 'How long clients may be held; longer, and all is taken back' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutback" -l max-lag -d 'How far behind the flow may be when clients are held' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutback" -l drain-timeout -d 'How long to wait, with clients still served, until the flow is no further behind than that' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutback" -l terminate-after -d 'End transactions of general traffic that are still open this long after clients are held [default: wait]' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutback" -l retries -d 'How often to try again after one of these bounds was exceeded and all was taken back' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutback" -l accept-quarantined -d 'Go home although exactly this many changes are in quarantine, which are then lost to the source' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutback" -s c -l config -d 'Configuration file [default: pgdetour.toml]' -r -F
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutback" -l source -d 'How to reach the source, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutback" -l target -d 'How to reach the target, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutback" -l rehearse -d 'Do everything up to the point of no return, then take it back; tells the pause to expect'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutback" -l no-hold -d 'Rehearse what can be done without holding clients'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutback" -l prewarm -d 'Load tables and indexes into the caches of the side that takes over first, by extension `pg_prewarm`'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutback" -l json -d 'Write one JSON document to standard output; messages go to standard error'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutback" -l dry-run -d 'Show every statement and router action in order, and change nothing'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutback" -s y -l yes -d 'Answer the confirmation with yes'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutback" -s q -l quiet -d 'Show no progress'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutback" -s v -l verbose -d 'Show more of what is done'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutback" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand cutback" -s V -l version -d 'Print version'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand verify" -s t -l table -d 'Compare only tables that match, as psql\'s \\d takes it; may be given more than once' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand verify" -l sample -d 'Compare only this share of the rows, chosen anew each time, such as 5%' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand verify" -s c -l config -d 'Configuration file [default: pgdetour.toml]' -r -F
complete -c pgdetour -n "__fish_pgdetour_using_subcommand verify" -l source -d 'How to reach the source, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand verify" -l target -d 'How to reach the target, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand verify" -l resume -d 'Go on where the last run was interrupted, in large tables range by range, instead of comparing every table anew'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand verify" -l repair -d 'Copy rows that differ from the side that serves to the other'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand verify" -l backup -d 'Compare the backup with the side that it follows; of it nothing is repaired'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand verify" -l json -d 'Write one JSON document to standard output; messages go to standard error'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand verify" -l dry-run -d 'Show every statement and router action in order, and change nothing'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand verify" -s y -l yes -d 'Answer the confirmation with yes'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand verify" -s q -l quiet -d 'Show no progress'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand verify" -s v -l verbose -d 'Show more of what is done'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand verify" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand verify" -s V -l version -d 'Print version'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand status" -l interval -d 'How long to wait between two looks' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand status" -l format -d 'How to write it' -r -f -a "text\t'For people'
prometheus\t'Metrics for a textfile collector'"
complete -c pgdetour -n "__fish_pgdetour_using_subcommand status" -s c -l config -d 'Configuration file [default: pgdetour.toml]' -r -F
complete -c pgdetour -n "__fish_pgdetour_using_subcommand status" -l source -d 'How to reach the source, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand status" -l target -d 'How to reach the target, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand status" -s w -l watch -d 'Show it again and again until interrupted'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand status" -l check -d 'Exit with 3 when somebody has to act, with 8 when clients are not served or changes are lost'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand status" -l json -d 'Write one JSON document to standard output; messages go to standard error'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand status" -l dry-run -d 'Show every statement and router action in order, and change nothing'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand status" -s y -l yes -d 'Answer the confirmation with yes'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand status" -s q -l quiet -d 'Show no progress'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand status" -s v -l verbose -d 'Show more of what is done'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand status" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand status" -s V -l version -d 'Print version'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand clean" -s c -l config -d 'Configuration file [default: pgdetour.toml]' -r -F
complete -c pgdetour -n "__fish_pgdetour_using_subcommand clean" -l source -d 'How to reach the source, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand clean" -l target -d 'How to reach the target, as for psql; before the configuration file' -r
complete -c pgdetour -n "__fish_pgdetour_using_subcommand clean" -l stay -d 'Make the target the new home: leave traffic there and forget the way back'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand clean" -l drop-data -d 'Drop the copies on the target too, which pgdetour does by itself only before cutover'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand clean" -l keep-data -d 'Keep the copies on the target, also before cutover'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand clean" -l json -d 'Write one JSON document to standard output; messages go to standard error'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand clean" -l dry-run -d 'Show every statement and router action in order, and change nothing'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand clean" -s y -l yes -d 'Answer the confirmation with yes'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand clean" -s q -l quiet -d 'Show no progress'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand clean" -s v -l verbose -d 'Show more of what is done'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand clean" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pgdetour -n "__fish_pgdetour_using_subcommand clean" -s V -l version -d 'Print version'
