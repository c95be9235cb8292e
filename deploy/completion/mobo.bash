# SPDX-License-Identifier: Apache-2.0
# Bash completion of mobo: commands and options as `mobo help` prints them, so that they cannot
# drift apart; names of machines and devices as they are now.

_mobo_commands() {
	"$1" help 2>/dev/null | sed -n 's/^  \([a-z]\+\( [a-z]\+\)\?\)  .*/\1/p'
}

_mobo_machines() {
	"$1" list 2>/dev/null | awk 'NR > 1 { print $1 }'
}

_mobo_devices() {
	"$1" device list "$2" 2>/dev/null | awk '/^[^ ]/ { print $1 }'
}

# The words of an option that has a fixed choice; fails for others.
_mobo_values() {
	case $1 in
	--state) echo powered-off starting running paused stopping crashed inaccessible ;;
	--format) echo raw qcow2 ;;
	--engine) echo auto translator interpreter ;;
	--boot) echo disk cdrom network ;;
	--serial) [[ $2 != wait ]] && echo console none pty file: socket: ;;
	*) return 1 ;;
	esac
}

_mobo() {
	local mobo=${COMP_WORDS[0]} cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]}
	local command="" usage="" word i n=0 all

	COMPREPLY=()
	all=$(_mobo_commands "$mobo")
	# The command, of one word or two, and how many arguments follow it.
	for ((i = 1; i < COMP_CWORD; i++)); do
		word=${COMP_WORDS[i]}
		if [[ $word == -* ]]; then
			continue
		elif [[ -z $command ]]; then
			command=$word
		elif ((n == 0)) && grep -qx "$command $word" <<<"$all"; then
			command+=" $word"
		else
			((n++))
		fi
	done
	if [[ -z $command ]]; then
		COMPREPLY=($(compgen -W "$(cut -d' ' -f1 <<<"$all") --json --help --version" -- "$cur"))
		return
	fi
	if ! grep -qx "$command" <<<"$all"; then
		COMPREPLY=($(compgen -W "$(sed -n "s/^$command //p" <<<"$all")" -- "$cur"))
		return
	fi
	if word=$(_mobo_values "$prev" "$command"); then
		COMPREPLY=($(compgen -W "$word" -- "$cur"))
		return
	fi
	usage=$("$mobo" help $command 2>/dev/null)
	if [[ $cur == -* ]]; then
		COMPREPLY=($(compgen -W "$(grep -o -e '--[a-z-]\+' <<<"$usage" | sort -u)" -- "$cur"))
		return
	fi
	if [[ $prev == -* ]]; then
		# What an option takes that has no fixed choice is mostly a file.
		COMPREPLY=($(compgen -f -- "$cur"))
	fi
	case $command in
	help) COMPREPLY=($(compgen -W "$(cut -d' ' -f1 <<<"$all" | sort -u)" -- "$cur")) ;;
	create | run | doctor | bench | list) ;;
	register) COMPREPLY=($(compgen -d -- "$cur")) ;;
	disk\ *) COMPREPLY=($(compgen -f -- "$cur")) ;;
	*)
		if ((n == 0)); then
			COMPREPLY+=($(compgen -W "$(_mobo_machines "$mobo")" -- "$cur"))
		elif ((n == 1)) && [[ $command == "device regs" || $command == console ]]; then
			COMPREPLY=($(compgen -W "$(_mobo_devices "$mobo" "$prev")" -- "$cur"))
		elif ((n == 1)) && [[ $command == set || $command == unset ]]; then
			COMPREPLY=($(compgen -W "$("$mobo" set "$prev" 2>/dev/null | awk '{ print $1 }')" -- "$cur"))
			[[ $command == set ]] && COMPREPLY=("${COMPREPLY[@]/%/=}") && compopt -o nospace
		elif ((n == 1)) && [[ $command == debug ]]; then
			COMPREPLY=($(compgen -W "registers memory disassemble blocks exits gdb" -- "$cur"))
		elif ((n == 1)) && [[ $command == mouse ]]; then
			COMPREPLY=($(compgen -W "move wheel click press release" -- "$cur"))
		else
			COMPREPLY=($(compgen -f -- "$cur"))
		fi
		;;
	esac
}

complete -o filenames -F _mobo mobo
