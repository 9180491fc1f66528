# An act of the demonstration, sourced by demo.sh: payment for a program, and the refund for the part that was not used.

say "Programs cost money here: a quote, a payment that shows in the account, and a refund for what was not used"
balance() { at victim "$vinet" balance --router "$router" --json "${as_victim[@]}" 2>/dev/null | json balance; }
typed victim "vinet balance --router $router"
at victim "$vinet" balance --router "$router" "${as_victim[@]}" 2>&1 | sed 's/^/        /'
before=$(balance)
typed victim "vinet firewall --block 203.0.113.66 --lifetime 1h --router $router"
paid_for() { at victim "$vinet" firewall --block 203.0.113.66 --lifetime 1h --router "$router" --json "${as_victim[@]}" >"$work/paid" 2>"$work/paid.err"; }
claim "the victim pays for an hour of a firewall" paid_for
instance=$(json instance <"$work/paid") after=$(balance)
note "$before credits before, $after after"
claim "the account has less" above "${before:-0}" "${after:-0}"
typed victim "vinet withdraw $instance --router $router"
claim "it withdraws the program at once" at victim "$vinet" withdraw "$instance" --router "$router" "${as_victim[@]}" >"$work/withdrawn" 2>&1
refunded=$(balance)
note "$refunded credits after the withdrawal"
claim "and gets back what it did not use" above "${refunded:-0}" "${after:-0}"
typed victim "vinet receipts --router $router"
receipts() { at victim "$vinet" receipts --router "$router" "${as_victim[@]}" >"$work/receipts" 2>&1; }
claim "every movement has a receipt, signed by the router and chained to the one before" receipts
tail -n 4 "$work/receipts" | sed 's/^/        /'
poor() { at lawful "$vinet" firewall --block 192.0.2.66 --lifetime 1h --router 203.0.113.1:7400 "${as_lawful[@]}" >"$work/poor" 2>&1; [ $? = 1 ]; }
typed lawful "vinet firewall --block 192.0.2.66 --lifetime 1h --router 203.0.113.1:7400      # without any money"
claim "who has no credit is refused" poor
sed 's/^/        /' "$work/poor"
