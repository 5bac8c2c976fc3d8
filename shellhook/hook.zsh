# LocalPort hook for zsh, 5.0 and newer: eval "$(localport hook zsh)"
#
# A prompt where nothing changed starts no process: it reads one line and compares the ages of files, with builtins
# only. Neither does a cd that crosses no project boundary.
#
# This is evaluated by emulate -R zsh -o no_aliases -o local_traps -o no_debug_before_cmd -c, which sticks to the functions: no option and no alias of the
# user counts in them. The line above sets __localport_exe. localport export sets the first four variables below and
# __localport_retry; none is exported.

if [[ ${__localport_shell-} != $$ ]]; then
  typeset -g __localport_root=""  # the project that this shell is in
  typeset -g __localport_dir=""   # where LocalPort keeps what prompts compare with
  typeset -g __localport_line=""  # the line in $__localport_dir/prompt, at the last export
  typeset -g __localport_told=""  # hash of the error that this shell last printed
  typeset -g __localport_pwd=""   # the directory of the last prompt; empty before the first
  typeset -g __localport_why=""   # why this prompt must run an export; empty if it need not
  typeset -g __localport_tried="" # the last reason for an export, and how many exports did not resolve it
  typeset -g __localport_tries=0
  # Directories, each with a newline, of exports that may have entered a project before they were interrupted; the names of the variables of
  # the project in this shell; messages for the next prompt; $__localport_dir/prompt, empty if the files have to be listed again; the content of that
  # file whose process was last found alive.
  typeset -g __localport_wait="" __localport_unfinished="" __localport_variables="" __localport_held="" __localport_file="" __localport_expected=""
  typeset -g __localport_shell=$$
fi
if [[ -z ${__localport_undo-} ]]; then # also if an older hook set the others
  typeset -g __localport_diff=""  # a copy of LOCALPORT_DIFF
  typeset -gA __localport_was     # what __localport_set has saved of the user, as code
  typeset -gA __localport_our     # the values that it has set
  typeset -g __localport_kept=""  # names of which it was said that they keep their value
  typeset -g __localport_undo=0   # at how many prompts after leaving what another hook puts back is undone
  typeset -ga __localport_uses    # the names of the variables that [env] uses
  typeset -g __localport_seen=""  # their values at the last export
  typeset -g __localport_now=""
  typeset -g __localport_recheck="" # 1 if an export at a cd found variables missing that another hook may set before the prompt
fi
if [[ -z ${__localport_wait-} ]]; then # also if an older hook set the others
  typeset -g __localport_retry="" # what localport export has to retry; it is passed back
  typeset -g __localport_code=0   # exit status of the last export
  typeset -g __localport_wait=0   # seconds until it is repeated; 0: it is not repeated
  typeset -g __localport_since=0  # when it ran, in $SECONDS
fi
# What was there before another tool has set what is in __localport_was, or before a list was changed, and our values then.
typeset -gA __localport_first __localport_earlier_value
typeset -ga __localport_above # arguments of a test: whether a config has appeared above
# What direnv and mise had changed at the last export. If an older hook set the others, it did not set these.
typeset -g __localport_tools=${__localport_tools-} __localport_file=${__localport_file-} __localport_expected=${__localport_expected-}
typeset -g +x -m "__localport_*"

# __localport_prompt is called before a prompt and after a cd, also after one in a subshell: (cd x).
# The first command removes the user's traps until the function returns; with no_debug_before_cmd not even it runs them.
__localport_prompt() {
  builtin trap - DEBUG ZERR
  # These conditions hold at nearly all prompts, and say that what follows would find nothing to do. One [[ ]] costs less than the commands that
  # they would be.
  if [[ $ZSH_SUBSHELL$__localport_undo$__localport_wait$__localport_tried$__localport_uses$__localport_recheck${__localport_held-}${precmd_functions[-1]-}${${chpwd_functions[-1]-}#__localport_cd}${DIRENV_DIFF-}${__MISE_DIFF-} == 000__localport_prompt &&
    $PWD == "$__localport_pwd" && ( ! -e ./.localport.toml || . -ef $__localport_root ) && ( -z $__localport_root ||
    -f $__localport_file && $(<$__localport_file) == "$__localport_expected" && ! $__localport_process -nt $__localport_file && -e $__localport_process/exe &&
    -e $__localport_config && ! $__localport_config -nt $__localport_config_stamp && ! $__localport_config -ot $__localport_config_stamp &&
    ( -z $__localport_new1 || ! -e $__localport_new1 ) && ( -z $__localport_new2 || ! -e $__localport_new2 ) &&
    ( -z $__localport_old1 || -e $__localport_old1 && ! $__localport_old1 -nt $__localport_stamp1 && ! $__localport_old1 -ot $__localport_stamp1 ) &&
    ( -z $__localport_old2 || -e $__localport_old2 && ! $__localport_old2 -nt $__localport_stamp2 && ! $__localport_old2 -ot $__localport_stamp2 ) ) ]] &&
    { [[ -z $__localport_above[1] ]] || ! builtin [ $__localport_above ] }; then
    return 0
  fi
  [[ $ZSH_SUBSHELL$__localport_undo${__localport_held-}${precmd_functions[-1]-}${chpwd_functions[-1]-} == 00__localport_prompt(|__localport_cd) ]] ||
    __localport_prepare || return 0
  __localport_why=""
  if [[ $PWD != "$__localport_pwd" ]]; then
    __localport_find_root
  elif [[ -e ./.localport.toml && ! . -ef $__localport_root ]]; then
    __localport_why="enter $PWD"
    [[ . -ef $PWD ]] || __localport_why="enter moved $PWD" # so that the reason differs when the directory is back
  elif builtin [ $__localport_above ]; then
    __localport_find_root # a config has appeared
  fi
  if [[ -z $__localport_why && -n $__localport_root ]]; then
    __localport_compare
  fi
  if [[ -z $__localport_why && $__localport_uses$__localport_recheck$__localport_wait${DIRENV_DIFF-}${__MISE_DIFF-} != 0 ]]; then
    if (( $#__localport_uses )); then
      __localport_read_used
      [[ $__localport_now == "$__localport_seen" ]] || __localport_why="variables $__localport_now"
    fi
    [[ -n $__localport_why || -z $__localport_root || ${DIRENV_DIFF-}${__MISE_DIFF-} == "$__localport_tools" ]] || __localport_compare_ours
    [[ -n $__localport_why || -z $__localport_recheck || -n ${__localport_at_cd-} ]] || __localport_why=recheck
    if [[ -z $__localport_why && $__localport_wait != 0 ]]; then
      if [[ $__localport_code == 0 ]]; then
        __localport_wait=0 # it resolved the reason
      elif __localport_is_due; then
        __localport_why=again
      fi
    fi
  fi
  if [[ -z $__localport_why ]]; then
    __localport_tried=""
  else
    __localport_export
  fi
  return 0
}

# __localport_prepare does what a prompt seldom needs before it compares. It fails in a subshell.
__localport_prepare() {
  (( ! ZSH_SUBSHELL )) || return
  [[ ${precmd_functions[-1]-} == __localport_prompt && ${chpwd_functions[-1]-} == (|__localport_cd) ]] || __localport_move
  [[ $__localport_undo == 0 ]] || __localport_undo_again
  [[ -z ${__localport_held-} ]] || builtin zle || (( ${+__p9k_instant_prompt_active} )) || { print -rn -- $__localport_held >&2; __localport_held="" }
  return 0
}

# __localport_cd is called after a cd.
__localport_cd() {
  builtin trap - DEBUG ZERR
  local __localport_at_cd=1
  __localport_prompt
}

# __localport_move makes this hook the last one, if it is there: another one could change what has been compared. Those that run after it
# this time are followed by another check, before the next command.
__localport_move() {
  if [[ ${precmd_functions[-1]-} != __localport_prompt && -n ${precmd_functions[(r)__localport_prompt]} ]]; then
    precmd_functions=(${precmd_functions:#__localport_prompt} __localport_prompt)
    typeset -ga preexec_functions
    preexec_functions=(${preexec_functions:#__localport_preexec} __localport_preexec)
  fi
  [[ -z ${chpwd_functions[(r)__localport_cd]} ]] || chpwd_functions=(${chpwd_functions:#__localport_cd} __localport_cd)
}

__localport_preexec() {
  builtin trap - DEBUG ZERR
  preexec_functions=(${preexec_functions:#__localport_preexec})
  (( $#preexec_functions )) || unset preexec_functions
  __localport_prompt
}

# __localport_find_root walks up from a new directory. ./.. is physical, like the root of the project. It sets
# __localport_above to the arguments of a test: whether a directory above this one, up to that root, has a config.
__localport_find_root() {
  local __localport_at=. __localport_last=$__localport_pwd __localport_hit=""
  __localport_pwd=$PWD
  typeset -ga __localport_above
  __localport_above=()
  while [[ -e $__localport_at ]]; do
    if [[ -e $__localport_at/.localport.toml ]]; then
      [[ ! $__localport_at -ef $__localport_root ]] || return 0
      __localport_why="enter $PWD" __localport_hit=1
    fi
    [[ $__localport_at == . ]] || __localport_above+=(${__localport_above[1]:+-o} -e $__localport_at/.localport.toml)
    [[ -z $__localport_hit ]] || return 0
    [[ ! $__localport_at -ef / ]] || break
    __localport_at+=/..
  done
  if [[ -n $__localport_root$__localport_unfinished ]]; then
    __localport_why="leave $PWD"
  elif [[ -z $__localport_last && -n ${LOCALPORT_DIFF-} ]]; then
    __localport_why=inherited
  fi
}

# __localport_compare compares the project with its state at the last export: the line N PID START, the files, and
# whether the process PID still runs. $(<file) does not fork; a call of a function costs as much as seven tests.
__localport_compare() {
  local __localport_now=""
  if [[ -z $__localport_dir ]]; then
    [[ -e $__localport_root/.localport.toml ]] || __localport_why="file $PWD"
    return
  fi
  [[ -n $__localport_file ]] || __localport_list_files
  [[ ! -f $__localport_file ]] || __localport_now=$(<$__localport_file)
  if [[ $__localport_now != "$__localport_line" ]]; then
    __localport_why="line $__localport_now $PWD"
    return
  fi
  if __localport_is_edited; then
    __localport_why="file $PWD"
    return
  fi

  # The process of this line was alive before, and no other has had its pid since: /proc/PID is as old as its
  # first use. A zombie has no exe.
  argv=(${=__localport_line})
  [[ -z $__localport_expected || $__localport_process -nt $__localport_file || ! -e $__localport_process/exe ]] || return
  [[ ${2-} == <1-> ]] || return
  if __localport_is_alive $2 $3 2>/dev/null; then
    __localport_expected=$__localport_line
  else
    __localport_why="gone $__localport_line $PWD"
  fi
}

# __localport_list_files stores the paths of what prompts compare. A file that had a stamp at the last export, because it existed, is in
# __localport_old1 or __localport_old2, one that had none in __localport_new1 or __localport_new2.
__localport_list_files() {
  argv=(${=__localport_line})
  __localport_process=/proc/${2-}
  __localport_expected=""
  __localport_file=$__localport_dir/prompt
  __localport_config=$__localport_root/.localport.toml __localport_config_stamp=$__localport_dir/stamp.config
  __localport_new1=$__localport_root/.localport.local.toml __localport_old1="" __localport_stamp1=$__localport_dir/stamp.local
  __localport_new2=$__localport_root/.env __localport_old2="" __localport_stamp2=$__localport_dir/stamp.env
  [[ ! -e $__localport_stamp1 ]] || __localport_old1=$__localport_new1 __localport_new1=""
  [[ ! -e $__localport_stamp2 ]] || __localport_old2=$__localport_new2 __localport_new2=""
}

# __localport_is_edited tells whether one of the project's files has changed since its stamp was written. In zsh a missing file is neither
# newer nor older.
__localport_is_edited() {
  [[ ! -e $__localport_config || $__localport_config -nt $__localport_config_stamp || $__localport_config -ot $__localport_config_stamp ||
    -n $__localport_new1 && -e $__localport_new1 || -n $__localport_new2 && -e $__localport_new2 ]] && return
  [[ -n $__localport_old1 && ( ! -e $__localport_old1 || $__localport_old1 -nt $__localport_stamp1 || $__localport_old1 -ot $__localport_stamp1 ) ||
    -n $__localport_old2 && ( ! -e $__localport_old2 || $__localport_old2 -nt $__localport_stamp2 || $__localport_old2 -ot $__localport_stamp2 ) ]]
}

# __localport_is_alive PID START tells whether that process runs. Field 22 of /proc/PID/stat is the start time,
# field 3 the state, field 2 a name in parentheses that may hold anything.
__localport_is_alive() {
  if [[ ! -e /proc/$$/stat ]]; then
    builtin kill -0 $1
    return
  fi
  local __localport_now=${"$(</proc/$1/stat)"##*\) }
  [[ $__localport_now == [^ZX]* && ${__localport_now[(ws: :)20]} == ${2-} ]]
}

# __localport_is_due tells whether a failed export is to be repeated now, also if the clock was set back.
__localport_is_due() {
  [[ $__localport_code == missing ]] || (( SECONDS < __localport_since || SECONDS >= __localport_since + __localport_wait ))
}

# __localport_export runs localport export. If that fails once, or does not resolve the reason three times (something may
# have changed meanwhile), it is repeated after 5, 10, … 60 s with a limit of 200 ms. Status 3 and 4, a config that is
# invalid or not allowed, are final: the hook detects what changes them.
__localport_export() {
  local __localport_out="" __localport_again="" __localport_earlier=$__localport_unfinished __localport_before __localport_result __localport_found=$__localport_root __localport_held_before=${__localport_held-} __localport_hold=""
  if builtin zle || (( ${+__p9k_instant_prompt_active} )); then
    __localport_hold=1
  fi
  if [[ $__localport_why != "$__localport_tried" ]]; then
    __localport_tried=$__localport_why
    __localport_tries=0
  fi
  if [[ $__localport_tries == 3 ]]; then
    [[ $__localport_wait != 0 ]] && __localport_is_due || return
    __localport_again=1
  fi
  local __localport_program
  if ! __localport_find_program; then
    __localport_report_missing
    return
  fi
  typeset -g __localport_missing=""
  [[ $__localport_why != again || $__localport_code == missing ]] || __localport_again=1
  # What holds if the user interrupts what follows: it is repeated as after a failure.
  __localport_before=$__localport_tries
  __localport_tries=3
  __localport_code=130
  __localport_wait=$(( __localport_wait < 60 ? __localport_wait + 5 : 60 ))
  __localport_since=$SECONDS
  [[ $'\n'$__localport_unfinished == *$'\n'$PWD$'\n'* ]] || __localport_unfinished+=$PWD$'\n'
  __localport_out=$([[ -z $__localport_diff ]] || export LOCALPORT_DIFF=$__localport_diff
    exec "$__localport_program" export zsh --pid $$ \
    --root "$__localport_root" --line "$__localport_line" --told "$__localport_told" --retry "$__localport_retry" \
    --saves --tools ${__localport_at_cd:+--cd} ${__localport_earlier:+"--unfinished=$__localport_earlier"} ${__localport_again:+--limit=200ms} ${__localport_hold:+--hold} </dev/null) &&
    __localport_result=0 || __localport_result=$?
  [[ -z $__localport_hold ]] || __localport_held="" # also if the output does not set it
  builtin eval "$__localport_out"
  [[ -z $__localport_hold ]] || __localport_held=$__localport_held_before$__localport_held
  [[ $__localport_found == "$__localport_root" ]] || __localport_find_root
  __localport_code=$__localport_result
  [[ $__localport_code != [034] ]] || __localport_unfinished="" # also if an older localport does not set it
  if (( __localport_code == 0 && __localport_before < 2 )); then
    __localport_tries=$(( __localport_before + 1 ))
    __localport_wait=0
  elif [[ $__localport_code == [34] ]]; then
    __localport_wait=0
  else
    __localport_since=$SECONDS
  fi
  # Status 3 and 4 are not final if the directory was moved meanwhile: when it is moved back, the reason is the same, and must count again.
  [[ $__localport_code != [34] || $__localport_why == 'enter moved '* || . -ef $PWD && ( -z $__localport_root || -e $__localport_root ) ]] || __localport_tried=''
  # Another edit is the same reason as this one, if this one has been seen.
  if [[ $__localport_why == 'file '* && $__localport_code == [034] && -n $__localport_dir ]]; then
    __localport_list_files
    __localport_is_edited || __localport_tried=""
  fi
}

# __localport_find_program sets __localport_program to localport: at the path that the hook was installed with or, if an upgrade has
# removed that, the first one in PATH.
__localport_find_program() {
  local __localport_at
  for __localport_at in $__localport_exe ${^path}/localport; do
    __localport_program=$__localport_at
    [[ $__localport_at != /* || ! -f $__localport_at || ! -x $__localport_at ]] || return 0
  done
  return 1
}

# __localport_say prints a message. The next prompt prints it instead while a line is edited, as in a widget that calls cd, and while
# powerlevel10k shows its instant prompt, which takes all output for a fault of the start-up files.
__localport_say() {
  if builtin zle || (( ${+__p9k_instant_prompt_active} )); then
    __localport_held+=$1$'\n'
  else
    print -r -- $1 >&2
  fi
}

# __localport_report_missing says once that there is no program. The next prompts look for it, without a process.
__localport_report_missing() {
  __localport_code=missing __localport_wait=1 __localport_tries=0
  [[ -z ${__localport_missing-} ]] || return 0
  typeset -g __localport_missing=1
  if [[ -n $__localport_root ]]; then
    __localport_say "localport: cannot run ${(q+)__localport_exe}, and PATH has no localport: this shell keeps the variables and forwards of ${(q+)__localport_root}"
    __localport_say "hint: install localport again; or undo by hand: unset -v ${__localport_variables:+$__localport_variables }LOCALPORT_DIFF; the forwards end when the last shell that uses them exits"
  else
    __localport_say "localport: cannot run ${(q+)__localport_exe}, and PATH has no localport: the services of this directory are not started"
    __localport_say "hint: install localport again in a directory of PATH"
  fi
}

# The functions below are called by the output of localport export. They keep what the user has as code in the shell: variables that are
# not exported, types and arrays are unknown to a program, and must not be exported to others.

# __localport_set NAME VALUE [update] exports a variable of the project. Without the third argument, what the user has by that name is
# saved first. Tied and special variables are assigned, never unset. A variable that cannot be set is named once.
__localport_set() {
  local __localport_type=${(tP)1} __localport_problem=""
  if [[ $__localport_type == *readonly* ]]; then
    __localport_problem="it is read-only in this shell"
  elif [[ $__localport_type == array*tied* ]]; then
    __localport_problem="it is an array that is tied to another variable"
  else
    if (( $# == 2 )); then
      if [[ $__localport_undo != 0 ]]; then
        unset "__localport_first[$1]" # of the previous visit
      elif (( ${+__localport_was[$1]} && ! ${+__localport_first[$1]} )); then # another tool may restore our value, which it has seen
        __localport_first[$1]=$__localport_was[$1]
        __localport_earlier_value[$1]=${__localport_our[$1]-}
      fi
      case $__localport_type in
        "") __localport_was[$1]="" ;;
        scalar-export|*(tied|special)*export*|*export*(tied|special)*) __localport_was[$1]="export $1=${(qq)${(P)1}}" ;;
        scalar|*(tied|special)*) __localport_was[$1]="typeset -g +x $1=${(qq)${(P)1}}" ;;
        *) __localport_was[$1]=$(typeset -p $1) ;;
      esac
    fi
    [[ $__localport_type == (|scalar|scalar-export|*tied*|*special*) ]] || unset -v $1
    { builtin export "$1=$2" 2>/dev/null } always { TRY_BLOCK_ERROR=0 }
    (( ! ${+__localport_was[$1]} )) || __localport_our[$1]=${(P)1}
    if [[ ${(P)1} != "$2" && $__localport_type != *tied*unique* ]]; then # typeset -U keeps the first of equal entries
      __localport_problem="this shell does not accept another"
      (( $# == 3 )) || __localport_restore $1
    fi
  fi
  [[ -z $__localport_problem ]] || __localport_report_kept $1 "$__localport_problem"
}

# __localport_report_kept NAME PROBLEM says once that a variable cannot be set.
__localport_report_kept() {
  [[ " $__localport_kept " != *" $1 "* ]] || return 0
  __localport_kept+=" $1"
  __localport_say "localport: $1 keeps its value: $2"
}

# __localport_assign NAME [VALUE] exports a variable, or removes it.
__localport_assign() {
  if [[ ${(tP)1} == *readonly* ]]; then
    __localport_report_kept $1 "it is read-only in this shell"
  elif (( $# == 2 )); then
    { builtin export "$1=$2" 2>/dev/null } always { TRY_BLOCK_ERROR=0 }
  else
    { unset -v $1 2>/dev/null } always { TRY_BLOCK_ERROR=0 }
  fi
}

# __localport_restore NAME [VALUE] restores what __localport_set has saved. If that was in another shell, VALUE is the previous value;
# without it, the variable was not set.
__localport_restore() {
  if [[ ${(tP)1} == *readonly* ]]; then
    __localport_report_kept $1 "it is read-only in this shell"
  elif [[ -n ${__localport_was[$1]-} ]]; then
    [[ ${(tP)1} == (*tied*|*special*) ]] || unset -v $1
    { eval "${__localport_was[$1]}" } always { TRY_BLOCK_ERROR=0 }
  else
    __localport_assign "$@"
  fi
}

# __localport_save_base NAME [VALUE] is called if another tool has set what __localport_set has saved: VALUE was there before; without it,
# nothing. __localport_restore_base NAME [VALUE] restores that.
__localport_save_base() {
  __localport_earlier_value[$1]=${__localport_our[$1]-}
  (( ! ${+__localport_first[$1]} )) || return 0
  __localport_first[$1]=${2+"export $1=${(qq)2}"}
  [[ -z ${2+x} || ${__localport_was[$1]-} != export\ -*=* ]] || __localport_first[$1]="${__localport_was[$1]%%=*}=${(qq)2}" # it has attributes
}

__localport_restore_base() {
  __localport_save_base "$@"
  __localport_was[$1]=$__localport_first[$1]
  unset "__localport_first[$1]"
  __localport_restore $1
}

# __localport_left is called when the shell has left a project. Another hook that was entered later may put back what it found: our
# values. __localport_undo_again undoes that at the next prompts, and forgets the variables then.
__localport_left() {
  __localport_undo=3
  local __localport_name
  for __localport_name in ${(k)__localport_first}; do
    if [[ ${(P)__localport_name} == "${__localport_earlier_value[$__localport_name]}" ]]; then
      unset "__localport_first[$__localport_name]" # it is the user's
    elif [[ $__localport_first[$__localport_name] == export\ -*=${(qq)${(P)__localport_name}} ]]; then # the other tool has restored the value only
      __localport_restore_base $__localport_name
    fi
  done
}

__localport_undo_again() {
  if [[ -n $__localport_root ]]; then
    __localport_undo=0
    return
  fi
  local __localport_name
  for __localport_name in ${(k)__localport_our}; do
    if [[ -z ${(tP)__localport_name} ]]; then
      :
    elif (( ${+__localport_first[$__localport_name]} )) && [[ ${(P)__localport_name} == "${__localport_earlier_value[$__localport_name]}" ]]; then
      __localport_restore_base $__localport_name
    elif [[ ${(P)__localport_name} == "${__localport_our[$__localport_name]}" ]]; then
      __localport_restore $__localport_name
    fi
  done
  (( --__localport_undo )) || { __localport_our=() __localport_was=() __localport_first=() __localport_earlier_value=() }
}

# __localport_compare_ours is called when direnv or mise has changed something. It finds out whether that may be one of our variables.
__localport_compare_ours() {
  local __localport_name
  __localport_tools=${DIRENV_DIFF-}${__MISE_DIFF-}
  for __localport_name in ${(k)__localport_our}; do
    if (( ${+__localport_first[$__localport_name]} )) || [[ ${(P)__localport_name} != "${__localport_our[$__localport_name]}" ]]; then
      __localport_why="tools $__localport_tools"
      return
    fi
  done
}

# __localport_watch NAME... stores the variables that [env] uses; the prompts compare them.
__localport_watch() {
  __localport_uses=("$@")
  __localport_read_used
  __localport_seen=$__localport_now
  __localport_tools=${DIRENV_DIFF-}${__MISE_DIFF-}
  __localport_file="" # the stamps may be others
}

# __localport_read_used sets __localport_now to the values of the variables in __localport_uses.
__localport_read_used() {
  local __localport_name
  __localport_now=""
  for __localport_name in $__localport_uses; do
    __localport_now+="${(tP)__localport_name}=${(P)__localport_name}"$'\n'
  done
}

# Last, so that this hook sees what others have set.
typeset -ga precmd_functions chpwd_functions
precmd_functions=(${precmd_functions:#__localport_prompt} __localport_prompt)
chpwd_functions=(${chpwd_functions:#__localport_(prompt|cd)})
if [[ -o interactive ]]; then
  chpwd_functions+=(__localport_cd)
fi
