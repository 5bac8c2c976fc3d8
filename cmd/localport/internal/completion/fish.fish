# Completion of localport for fish: localport completion fish > ~/.config/fish/completions/localport.fish

# __localport_walk walks over the words before the current one. It sets __localport_path to the command, __localport_argument to 1 after an
# argument, __localport_program to the number of the word with which another program's command line begins, and __localport_project to -C and -c.
function __localport_walk
    set -g __localport_path ''
    set -g __localport_argument ''
    set -g __localport_program ''
    set -g __localport_project
    set -l words (commandline -opc)
    set -l i 2
    while test $i -le (count $words)
        set -l word $words[$i]
        if test "$word" = --
            set -g __localport_program (math $i + 1)
            return
        else if string match -q -- '-*=*' $word
        else if string match -q -- '-*' $word
            if contains -- "$__localport_path $word" $__localport_valued; or contains -- " $word" $__localport_valued
                set i (math $i + 1)
                if contains -- $word -C -c --dir --config; and set -q words[$i]
                    set -a __localport_project $word (string replace -r '^~' $HOME -- $words[$i])
                end
            end
        else
            set -l path (string trim -- "$__localport_path $word")
            if contains -- $path $__localport_commands
                set -g __localport_path $path
            else if test "$__localport_path" = exec
                set -g __localport_program $i
                return
            else
                set -g __localport_argument 1
            end
        end
        set i (math $i + 1)
    end
    if test "$__localport_path" = exec -a $i -eq (math (count $words) + 1); and not string match -q -- '-*' (commandline -ct)
        set -g __localport_program $i
    end
end

# __localport_at tells whether the words so far are this command, and not yet an argument that has commands beside it.
function __localport_at
    __localport_walk
    test "$__localport_path" = "$argv[1]" -a -z "$__localport_program"
end

function __localport_in_program
    __localport_walk
    test -n "$__localport_program"
end

# __localport_names prints the names of a kind that the user has chosen.
function __localport_names
    __localport_walk
    set -l words (commandline -opc)
    $words[1] __complete $argv[1] $__localport_project 2>/dev/null
end

# The command line of another program: fish completes it as if it were alone.
function __localport_complete_program
    set -l words (commandline -opc) (commandline -ct)
    complete -C (string join ' ' -- (string escape -- $words[$__localport_program..-2]) $words[-1])
end
complete -c localport -n __localport_in_program -a '(__localport_complete_program)'
