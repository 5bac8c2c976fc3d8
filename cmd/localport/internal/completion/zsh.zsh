#compdef localport
# Completion of localport for zsh: source <(localport completion zsh), after compinit; or save it as _localport in a directory of fpath.

# __localport_complete walks over the words before the current one. compinit has set the options that completion functions need.
__localport_complete() {
  local path_='' value='' word='' has_argument='' __localport_result=''
  local -a project names __localport_list
  local -i i
  for ((i = 2; i < CURRENT; i++)); do
    word=${words[i]}
    if [[ $word == -- ]]; then
      __localport_argument "$path_"
      [[ $__localport_result != command ]] || __localport_program $((i + 1))
      return
    elif [[ $word == -*=* ]]; then
      continue
    elif [[ $word == -* ]]; then
      __localport_value "$path_ $word"
      [[ -n $__localport_result ]] || continue
      value=$__localport_result
      ((++i))
      if ((i < CURRENT)); then
        value=''
        case $word in
          -C|-c|--dir|--config) project+=("$word" "${(Q)words[i]/#\~/$HOME}") ;;
        esac
      fi
    else
      __localport_commands "$path_"
      names=(${__localport_list%%:*})
      if ((${names[(Ie)$word]})); then
        path_=${path_:+$path_ }$word
      else
        __localport_argument "$path_"
        if [[ $__localport_result == command ]]; then
          __localport_program $i
          return
        fi
        has_argument=1
      fi
    fi
  done
  if [[ -n $value ]]; then
    __localport_reply "$value"
  elif [[ $PREFIX == -*=* ]]; then
    __localport_value "$path_ ${PREFIX%%=*}"
    compset -P '*='
    __localport_reply "$__localport_result"
  elif [[ $PREFIX == -* ]]; then
    __localport_flags "$path_"
    _describe -o flag __localport_list
    if [[ -n $path_ ]]; then
      __localport_flags ''
      _describe -o 'flag of all commands' __localport_list
    fi
  else
    __localport_commands "$path_"
    if ((${#__localport_list})) && [[ -z $has_argument ]]; then
      _describe command __localport_list
    fi
    __localport_argument "$path_"
    __localport_reply "$__localport_result"
  fi
}

# __localport_reply adds the words of a kind.
__localport_reply() {
  case $1 in
    ''|any) ;;
    words*) compadd -- ${=1#words} ;;
    files) _files ;;
    directories) _files -/ ;;
    command) _command_names -e ;;
    *) compadd -- ${(f)"$(${words[1]} __complete $1 $project 2>/dev/null)"} ;;
  esac
}

# __localport_program completes another program and its arguments, which begin at the word given.
__localport_program() {
  shift $(($1 - 1)) words
  ((CURRENT -= $1 - 1))
  _normal
}

# The functions below set __localport_result or __localport_list for the command $1.
