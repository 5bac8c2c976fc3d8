# Completion of localport for bash: source <(localport completion bash)

# __localport_complete walks over the words before the current one. bash splits "--format=json" into three words.
__localport_complete() {
  local current=${COMP_WORDS[COMP_CWORD]} path='' value='' word i has_argument='' __localport_result
  local -a project=()
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    if [[ $word == -- ]]; then
      __localport_argument "$path"
      [[ $__localport_result != command ]] || __localport_program $((i + 1))
      return
    elif [[ $word == -*=* ]]; then
      continue
    elif [[ $word == -* ]]; then
      __localport_value "$path $word"
      [[ -n $__localport_result ]] || continue
      value=$__localport_result
      [[ ${COMP_WORDS[i + 1]} != = || $((i + 1)) == "$COMP_CWORD" ]] || ((i++))
      ((i++))
      if ((i < COMP_CWORD)); then
        value=''
        case $word in
        -C | -c | --dir | --config) project+=("$word" "${COMP_WORDS[i]/#\~/$HOME}") ;;
        esac
      fi
    else
      __localport_commands "$path"
      if [[ " $__localport_result " == *" $word "* ]]; then
        path=${path:+$path }$word
      else
        __localport_argument "$path"
        if [[ $__localport_result == command ]]; then
          __localport_program "$i"
          return
        fi
        has_argument=1
      fi
    fi
  done
  [[ $current != = ]] || current=''
  if [[ -n $value ]]; then
    __localport_reply "$value"
  elif [[ $current == -* ]]; then
    __localport_flags "$path"
    value=$__localport_result
    [[ -z $path ]] || __localport_flags ''
    COMPREPLY=($(compgen -W "$value $__localport_result" -- "$current"))
  else
    __localport_commands "$path"
    if [[ -n $__localport_result && -z $has_argument ]]; then
      COMPREPLY=($(compgen -W "$__localport_result" -- "$current"))
    fi
    __localport_argument "$path"
    __localport_reply "$__localport_result"
  fi
}

# __localport_reply adds the words of a kind.
__localport_reply() {
  local IFS=$' \t\n'
  case $1 in
  '' | any) ;;
  words*) COMPREPLY+=($(compgen -W "${1#words}" -- "$current")) ;;
  files | directories)
    compopt -o filenames 2>/dev/null
    IFS=$'\n'
    if [[ $1 == files ]]; then
      COMPREPLY+=($(compgen -f -- "$current"))
    else
      COMPREPLY+=($(compgen -d -- "$current"))
    fi
    ;;
  command)
    compopt -o filenames 2>/dev/null
    COMPREPLY+=($(compgen -c -- "$current"))
    ;;
  *) COMPREPLY+=($(compgen -W "$("${COMP_WORDS[0]}" __complete "$1" ${project[@]+"${project[@]}"} 2>/dev/null)" -- "$current")) ;;
  esac
}

# __localport_program completes another program and its arguments, which begin at the word given.
__localport_program() {
  if (($1 == COMP_CWORD)); then
    __localport_reply command
  elif declare -F _comp_command_offset >/dev/null; then # bash-completion 2.12
    _comp_command_offset "$1"
  elif declare -F _command_offset >/dev/null; then
    _command_offset "$1"
  else
    __localport_reply files
  fi
}

# The functions below set __localport_result for the command $1.
