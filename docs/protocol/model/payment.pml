/*
 * One KWBP payment and its reversal: buyer, merchant, gateway, switch with issuer, and a network that loses, repeats,
 * delays and reorders everything. README.md says what is modelled and how it is run.
 *
 * How to read it. All state is global, so that a property can speak of it; each process is one party and a list of
 * guarded steps. What a party has on its disk and what it has only in memory stand apart: a crash empties the second.
 * One step is one transaction or one send, never both, so a crash falls between any two.
 *
 * The network is a set of messages under way. Delivery takes none out, so each may come again at any later time, in any
 * order; a loss takes one out. There is no clock: a deadline may pass at any moment at which somebody waits for it.
 *
 * There is one order (one XID). Orders do not touch each other but through trace numbers; the answer that belongs to
 * another order stands for all of them.
 *
 * Faults are switched on by -D; each of them must break a property (model.yaml).
 */

#define SIGNED_AMOUNT 1
#define STANS 3 /* trace numbers of 0200 are 1 and 2, for two at most are ever told apart; 0 is none */
#define REVERSALS 3 /* likewise of 0420: 1 the reversal, 2 the one after a late approval */

/* --- states: names as in the code, behind a letter for the party ------------------------------------------------- */

mtype:wallet = { W_NONE, W_SIGNED, W_PAID, W_DECLINED, W_REFUSED, W_PENDING, W_REVERSED };
mtype:merchant = {
  M_INVOICED, M_PAID_PENDING, M_AUTHORISED, M_ACKED, M_RECEIPTED, M_DECLINED, M_UNKNOWN, M_REVERSED
};
mtype:gateway = {
  G_NONE, G_RECEIVED, G_VERIFIED, G_SENT, G_APPROVED, G_DECLINED, G_UNKNOWN, G_ACKED, G_REV_QUEUED, G_REVERSED,
  G_REV_FAILED
};
mtype:sale = { S_NONE, S_APPROVED, S_DECLINED, S_REVERSED, S_FORESTALLED };

/* AuthRes or Error of the gateway */
mtype:answer = { NO_ANSWER, A_APPROVED, A_DECLINED, A_NO_REPLY };
/* Receipt, Error or InqRes of the merchant */
mtype:told = { NOTHING, T_PAID, T_DECLINED, T_REFUSED, T_PENDING, T_REVERSED };
/* DE 39 */
mtype:rc = { NO_RC, RC_00, RC_05, RC_13, RC_25, RC_68, RC_91, RC_94 };
/* how far a run of the gateway has come; in memory only */
mtype:progress = { IDLE, OPENING, READY, TO_SEND, WAITING };

/* --- on disks ----------------------------------------------------------------------------------------------------- */

mtype:wallet w = W_NONE;

mtype:merchant m = M_INVOICED;
bit m_refused; /* DECLINED by an Error of the gateway, not by its AuthRes */

mtype:gateway g = G_NONE;
mtype:answer g_answer = NO_ANSWER;
bit g_refused; /* an Error was given before the order book knew the order */
bit g_approved; /* the network approved */
bit g_late_approved; /* the network's approval came when nobody waited for it */
bit g_found; /* the switch took the original back; FALSE: it did not know it (25) */
byte g_stan; /* of the 0200 */
byte g_rev; /* of the 0420: 1 the first reversal, 2 the one after a late approval */
bit g_attempted; /* an attempt of this reversal was counted */

mtype:sale s_sale[STANS] = S_NONE;
mtype:rc s_sale_rc[STANS] = NO_RC;
mtype:rc s_reversal_rc[REVERSALS] = NO_RC;

/* --- in memory ---------------------------------------------------------------------------------------------------- */

mtype:progress g_run = IDLE;
bit g_ack_checked; /* an AuthAck passed its checks and waits for the disk */
bit g_to_reverse; /* an attempt was counted; its message has not left */

/* --- under way ---------------------------------------------------------------------------------------------------- */

bit n_preq, n_auth_req, n_auth_ack, n_inq_req;
bit n_approved, n_declined, n_no_reply, n_error; /* AuthRes by what it says; Error */
bit n_ack_taken, n_ack_late;
/* InqRes by what it settles: REVERSED, or CONCLUDED with a refusal; as long as it settles nothing the merchant asks
   again */
bit n_inq_reversed, n_inq_declined;
mtype:told n_told = NOTHING; /* merchant to wallet */
bit n_0200[STANS], n_0210[STANS], n_0420[REVERSALS], n_0430[REVERSALS];

/* --- the world ---------------------------------------------------------------------------------------------------- */

bit storm = 1; /* anything may be lost and the gateway may crash, any number of times */
bit ack_by_passed;
byte amount; /* that the merchant asks for, and that is debited; a dishonest one asks for another than was signed */
byte debits; /* how often the card was debited: what this is all about */
byte reversals; /* how often that was given back */
byte firsts; /* 0420 that did not say "repeat" about the reversal g_rev */

/* A move names both ends: the calls of these three are the state machines, and the test compares them with the code's
   tables. When the search ends it prints which moves it has met, so that none stands here in vain. */
c_decl {
  static int moved[3][16][16], before_;
  static void print_moves(void) __attribute__((destructor));
  static void print_moves(void) {
    int party, i, j;
    for (party = 0; party < 3; party++) for (i = 0; i < 16; i++) for (j = 0; j < 16; j++)
      if (moved[party][i][j]) printf("moved %c %d %d\n", "wmg"[party], i, j);
  }
}
inline buyer_moves(before, after) {
  assert(w == before); c_code { before_ = now.w; }; w = after; c_code { moved[0][before_][now.w] = 1; }
}
inline merchant_moves(before, after) {
  assert(m == before); c_code { before_ = now.m; }; m = after; c_code { moved[1][before_][now.m] = 1; }
}
inline gateway_moves(before, after) {
  assert(g == before); c_code { before_ = now.g; }; g = after; c_code { moved[2][before_][now.g] = 1; }
}

/* === properties =================================================================================================== */

#define UNREVERSED (debits > reversals)
#define RECEIPT_OK (w == W_PAID)
#define TOLD_DECLINED (n_declined || n_inq_declined || n_inq_reversed \
  || n_told == T_DECLINED || n_told == T_REFUSED || n_told == T_REVERSED || m == M_DECLINED || m == M_REVERSED \
  || w == W_DECLINED || w == W_REFUSED || w == W_REVERSED)
#define MERCHANT_PAID (m == M_ACKED || m == M_RECEIPTED)
#define NOT_YET_SENT (g == G_NONE || g == G_RECEIVED || g == G_VERIFIED)
#define REVERSING (g == G_REV_QUEUED || g == G_REVERSED || g == G_REV_FAILED)
#define A_PERSON_MUST_LOOK (g == G_REV_FAILED)

/* (i) issuer debits at most once per XID ... */
ltl at_most_one_debit { [] (debits <= 1) }
/* ... and only the amount signed by the buyer */
ltl only_the_amount_signed { [] (debits > 0 -> amount == SIGNED_AMOUNT) }
/* (ii) merchant AUTHORISED => gateway APPROVED; it may be reversing by then, but not once the merchant may ship */
ltl authorised_means_approved {
  [] ((m == M_AUTHORISED -> g_approved && g_answer == A_APPROVED) && (MERCHANT_PAID -> g == G_ACKED))
}
/* what makes (ii) worth something: gateway APPROVED or ACKED => the card is debited */
ltl approved_means_debited { [] ((g == G_APPROVED || g == G_ACKED) -> debits == 1 && reversals == 0) }
/* (iii) buyer RECEIPT_OK => both */
ltl receipt_means_both { [] (RECEIPT_OK -> MERCHANT_PAID && g == G_ACKED && debits == 1 && reversals == 0) }
/* DECLINED, refused or "you have it back" is never told while the card is debited and not given back */
ltl declined_means_not_debited { [] (TOLD_DECLINED -> !UNREVERSED) }
/* persisted before sent: 0200, 0420, AuthRes, AuthAck, AuthReq, PReq */
ltl persisted_before_sent {
  [] ((n_0200[1] -> !NOT_YET_SENT && g_stan == 1) && (n_0200[2] -> !NOT_YET_SENT && g_stan == 2)
    && (n_0420[1] -> REVERSING && (g_attempted || g_rev == 2)) && (n_0420[2] -> REVERSING && g_rev == 2 && g_attempted)
    && (n_approved -> g_answer == A_APPROVED) && (n_declined -> g_answer == A_DECLINED)
    && (n_no_reply -> g_answer == A_NO_REPLY)
    && (n_auth_ack -> m != M_INVOICED && m != M_PAID_PENDING) && (n_auth_req -> m != M_INVOICED)
    && (n_preq -> w != W_NONE))
}
/* a reversal is effective at most once, and only against a debit */
ltl reversed_at_most_once { [] (reversals <= 1 && reversals <= debits) }
/* no reversal after an accepted AuthAck */
ltl acknowledged_is_final {
  [] ((g == G_ACKED || n_ack_taken) -> g == G_ACKED && reversals == 0 && !n_0420[1] && !n_0420[2])
}
/* of one reversal only one message says that it is the first */
ltl repeats_say_so { [] (firsts <= 1) }

/* What follows is of runs in which the storm ends some day: from then on the network delivers and the gateway stands.
   Nothing else is assumed: each party's steps then come to an end, so no fairness among them is needed. */
#define CALM (!storm)
#define BUYER_KNOWS (w == W_PAID || w == W_DECLINED || w == W_REFUSED || w == W_REVERSED)
#define MERCHANT_KNOWS (m == M_RECEIPTED || m == M_DECLINED || m == M_REVERSED)
#define GATEWAY_KNOWS (g == G_NONE || g == G_DECLINED || g == G_ACKED || g == G_REVERSED)

/* (v) eventually no UNKNOWN */
ltl eventually_no_unknown {
  <> CALM -> <> [] ((BUYER_KNOWS && MERCHANT_KNOWS && GATEWAY_KNOWS) || A_PERSON_MUST_LOOK)
}
/* who stays debited has the goods */
ltl eventually_goods_or_money {
  <> CALM -> <> [] (!UNREVERSED || (m == M_RECEIPTED && w == W_PAID) || A_PERSON_MUST_LOOK)
}

/* === buyer ======================================================================================================== */

#define BUYER_WAITS (w == W_SIGNED || w == W_PENDING)

/* what is under way to a buyer who has the answer changes nothing any more, so it is taken out */
inline told(before, after) { buyer_moves(before, after); n_told = NOTHING; n_preq = 0 }

active proctype buyer() {
  do
  :: d_step { w == W_NONE -> buyer_moves(W_NONE, W_SIGNED) } /* the order is on the disk */
  :: d_step { BUYER_WAITS && !n_preq -> n_preq = 1 } /* the same bytes again, until the answer settles it */
  :: d_step { w == W_SIGNED && n_told == T_PAID -> told(W_SIGNED, W_PAID) }
  :: d_step { w == W_SIGNED && n_told == T_DECLINED -> told(W_SIGNED, W_DECLINED) }
  :: d_step { w == W_SIGNED && n_told == T_REFUSED -> told(W_SIGNED, W_REFUSED) }
  :: d_step { w == W_SIGNED && n_told == T_REVERSED -> told(W_SIGNED, W_REVERSED) }
  :: d_step { w == W_SIGNED && n_told == T_PENDING -> buyer_moves(W_SIGNED, W_PENDING) }
  :: d_step { w == W_PENDING && n_told == T_PAID -> told(W_PENDING, W_PAID) }
  :: d_step { w == W_PENDING && n_told == T_DECLINED -> told(W_PENDING, W_DECLINED) }
  :: d_step { w == W_PENDING && n_told == T_REFUSED -> told(W_PENDING, W_REFUSED) }
  :: d_step { w == W_PENDING && n_told == T_REVERSED -> told(W_PENDING, W_REVERSED) }
  od
}

/* === merchant ===================================================================================================== */

/* Answers to a merchant that no longer waits for them change nothing, so they are taken out. AuthReq stays under way:
   a gateway that has not seen it yet would begin to work. */
inline authorised(after) {
  merchant_moves(M_PAID_PENDING, after); n_approved = 0; n_declined = 0; n_no_reply = 0; n_error = 0
}
inline acknowledged(after) { merchant_moves(M_AUTHORISED, after); n_ack_taken = 0; n_ack_late = 0 }
inline inquired(after) {
  merchant_moves(M_UNKNOWN, after);
  n_inq_req = 0; n_inq_reversed = 0; n_inq_declined = 0
}

active proctype merchant() {
  do
  :: atomic { m == M_INVOICED && n_preq -> /* M9 */
      if
      :: amount = SIGNED_AMOUNT
      :: amount = SIGNED_AMOUNT + 1 /* a dishonest merchant */
      fi;
      merchant_moves(M_INVOICED, M_PAID_PENDING)
    }
  :: d_step { m == M_PAID_PENDING && !n_auth_req -> n_auth_req = 1 } /* the same bytes until it is answered */
  :: d_step { m == M_PAID_PENDING && n_approved -> authorised(M_AUTHORISED) }
  :: d_step { m == M_PAID_PENDING && n_approved -> authorised(M_UNKNOWN) } /* its clock says that ackBy has passed */
  :: d_step { m == M_PAID_PENDING && n_declined -> authorised(M_DECLINED) }
  :: d_step { m == M_PAID_PENDING && n_error -> m_refused = 1; authorised(M_DECLINED) }
  :: d_step { m == M_PAID_PENDING && n_no_reply -> authorised(M_UNKNOWN) }
#ifdef SHIP_BEFORE_ACK
  :: d_step { m == M_AUTHORISED -> acknowledged(M_ACKED) }
#endif
  :: d_step { m == M_AUTHORISED && !n_auth_ack -> n_auth_ack = 1 }
  :: d_step { m == M_AUTHORISED && n_ack_taken -> acknowledged(M_ACKED) }
  :: d_step { m == M_AUTHORISED && n_ack_late -> acknowledged(M_UNKNOWN) }
  :: d_step { m == M_ACKED -> merchant_moves(M_ACKED, M_RECEIPTED) }
#ifndef NO_INQUIRY
  :: d_step { m == M_UNKNOWN && !n_inq_req -> n_inq_req = 1 }
  :: d_step { m == M_UNKNOWN && n_inq_reversed -> inquired(M_REVERSED) }
  :: d_step { m == M_UNKNOWN && n_inq_declined -> inquired(M_DECLINED) }
#endif
  /* the wallet asks (PReq again, or InqReq) and is answered from the order book */
  :: d_step { n_preq && (m == M_PAID_PENDING || m == M_UNKNOWN) && n_told == NOTHING -> n_told = T_PENDING }
  :: d_step { n_preq && m == M_RECEIPTED && n_told != T_PAID -> n_told = T_PAID }
  :: d_step { n_preq && m == M_DECLINED && !m_refused && n_told != T_DECLINED -> n_told = T_DECLINED }
  :: d_step { n_preq && m == M_DECLINED && m_refused && n_told != T_REFUSED -> n_told = T_REFUSED }
  :: d_step { n_preq && m == M_REVERSED && n_told != T_REVERSED -> n_told = T_REVERSED }
  od
}

/* === gateway ====================================================================================================== */

/* The outcome and the signed answer to it are one transaction (OrderStore.conclude). */
inline concluded(answer) { g_answer = answer; g_run = IDLE }

/* Only a party that still waits for an answer is given one here: any other would ignore it. */
#define MERCHANT_WAITS (m == M_PAID_PENDING)

#ifdef AMOUNT_NOT_COMPARED
#define AMOUNT_AGREES 1
#else
#define AMOUNT_AGREES (amount == SIGNED_AMOUNT)
#endif

#ifdef REFUSAL_OF_ONE_COPY
#define REFUSED_BEFORE 0
#else
#define REFUSED_BEFORE g_refused
#endif

active proctype gateway() {
  do
  /* --- AuthReq: G1 to G7 --- */
  :: d_step { n_auth_req && g == G_NONE && AMOUNT_AGREES && !REFUSED_BEFORE ->
      gateway_moves(G_NONE, G_RECEIVED); g_run = OPENING }
  :: d_step { n_auth_req && MERCHANT_WAITS && g == G_NONE && !n_error -> g_refused = 1; n_error = 1 }
  /* --- a repeat after a crash runs an order anew that was never sent --- */
  :: d_step { n_auth_req && (g == G_RECEIVED || g == G_VERIFIED) && g_run == IDLE -> g_run = OPENING }
  /* --- a repeat is answered from the book, byte for byte --- */
  :: d_step { n_auth_req && MERCHANT_WAITS && g_answer == A_APPROVED && !n_approved -> n_approved = 1 }
  :: d_step { n_auth_req && MERCHANT_WAITS && g_answer == A_DECLINED && !n_declined -> n_declined = 1 }
  :: d_step { n_auth_req && MERCHANT_WAITS && g_answer == A_NO_REPLY && !n_no_reply -> n_no_reply = 1 }
  /* --- ... and where there is no answer yet, one is signed and stored first --- */
  :: d_step { n_auth_req && g_answer == NO_ANSWER && g_run == IDLE && g == G_DECLINED -> g_answer = A_DECLINED }
  :: d_step { n_auth_req && g_answer == NO_ANSWER && g_run == IDLE && (g == G_UNKNOWN || REVERSING) ->
      g_answer = A_NO_REPLY }
  /* --- G8 to G11 --- */
  :: d_step { g_run == OPENING && g == G_RECEIVED -> gateway_moves(G_RECEIVED, G_VERIFIED); g_stan = 1; g_run = READY }
  /* a new STAN; one under which nothing was ever sent is as good as new */
  :: d_step { g_run == OPENING && g == G_VERIFIED ->
      gateway_moves(G_VERIFIED, G_VERIFIED); g_stan = (n_0200[1] || s_sale[1] != S_NONE -> 2 : 1); g_run = READY }
  :: d_step { g_run == OPENING && g == G_RECEIVED -> gateway_moves(G_RECEIVED, G_DECLINED); concluded(A_DECLINED) }
  :: d_step { g_run == READY && g == G_VERIFIED -> gateway_moves(G_VERIFIED, G_DECLINED); concluded(A_DECLINED) }
  /* --- never sent, and too old to be run again --- */
  :: d_step { g == G_RECEIVED && g_run == IDLE -> gateway_moves(G_RECEIVED, G_DECLINED) }
  :: d_step { g == G_VERIFIED && g_run == IDLE -> gateway_moves(G_VERIFIED, G_DECLINED) }
  /* --- G12 SENT, then G13 0200 --- */
#ifdef SEND_BEFORE_PERSIST
  :: d_step { g_run == READY && g == G_VERIFIED -> n_0200[g_stan] = 1; g_run = TO_SEND }
  :: d_step { g_run == TO_SEND && g == G_VERIFIED -> gateway_moves(G_VERIFIED, G_SENT); g_run = WAITING }
#else
  :: d_step { g_run == READY && g == G_VERIFIED -> gateway_moves(G_VERIFIED, G_SENT); g_run = TO_SEND }
  :: d_step { g_run == TO_SEND && g == G_SENT -> n_0200[g_stan] = 1; g_run = WAITING }
  /* the line went down and no byte was written */
  :: d_step { g_run == TO_SEND && g == G_SENT -> gateway_moves(G_SENT, G_DECLINED); concluded(A_DECLINED) }
#endif
  /* --- 0210 of our 0200: matched on STAN and the rest --- */
  :: d_step { g_run == WAITING && n_0210[g_stan] && s_sale_rc[g_stan] == RC_00 ->
#ifdef ANSWER_BEFORE_STORED
      n_approved = 1
    }
  :: d_step { g_run == WAITING && n_approved ->
#endif
      g_approved = 1; gateway_moves(G_SENT, G_APPROVED); concluded(A_APPROVED) }
  /* an approval that could not be signed */
  :: d_step { g_run == WAITING && n_0210[g_stan] && s_sale_rc[g_stan] == RC_00 ->
      g_approved = 1; gateway_moves(G_SENT, G_UNKNOWN); concluded(NO_ANSWER) }
  :: d_step { g_run == WAITING && n_0210[g_stan] && s_sale_rc[g_stan] == RC_05 ->
      gateway_moves(G_SENT, G_DECLINED); concluded(A_DECLINED) }
  /* 91: nothing was debited, and the merchant is told noReply */
  :: d_step { g_run == WAITING && n_0210[g_stan] && s_sale_rc[g_stan] == RC_91 ->
      gateway_moves(G_SENT, G_DECLINED); concluded(A_NO_REPLY) }
  :: d_step { g_run == WAITING && n_0210[g_stan] && s_sale_rc[g_stan] == RC_68 ->
      gateway_moves(G_SENT, G_UNKNOWN); concluded(A_NO_REPLY) }
#ifdef NO_MATCH_ON_STAN
  /* another order's approval is under way, always */
  :: d_step { g_run == WAITING -> g_approved = 1; gateway_moves(G_SENT, G_APPROVED); concluded(A_APPROVED) }
#endif
  /* --- T1 --- */
#ifdef DECLINE_ON_TIMEOUT
  :: d_step { g_run == WAITING -> gateway_moves(G_SENT, G_DECLINED); concluded(A_DECLINED) }
#else
  :: d_step { g_run == WAITING -> gateway_moves(G_SENT, G_UNKNOWN); concluded(A_NO_REPLY) }
#endif
  /* --- AuthAck: checked, then stored; ackBy may pass between the two --- */
  :: d_step { n_auth_ack && !ack_by_passed && !g_ack_checked && g == G_APPROVED -> g_ack_checked = 1 }
  :: d_step { g_ack_checked && g == G_APPROVED -> g_ack_checked = 0; gateway_moves(G_APPROVED, G_ACKED) }
  :: d_step { g_ack_checked && g != G_APPROVED -> g_ack_checked = 0 }
#ifdef ACK_AFTER_REVERSAL
  :: d_step { n_auth_ack && g == G_REV_QUEUED -> gateway_moves(G_REV_QUEUED, G_ACKED) }
#endif
  :: d_step { n_auth_ack && m == M_AUTHORISED && g == G_ACKED && !n_ack_taken -> n_ack_taken = 1 }
  :: d_step { n_auth_ack && m == M_AUTHORISED && REVERSING && !n_ack_late -> n_ack_late = 1 }
  /* B3: late only once the reversal is queued */
#ifdef ACK_REFUSED_BY_THE_CLOCK /* the order may still be APPROVED, and another copy on its way to the disk */
  :: d_step { n_auth_ack && m == M_AUTHORISED && ack_by_passed && g == G_APPROVED && !n_ack_late -> n_ack_late = 1 }
#endif
  /* --- InqReq: where the order stands --- */
  :: d_step { n_inq_req && g == G_DECLINED && g_answer == A_DECLINED && !n_inq_declined -> n_inq_declined = 1 }
  /* a decline whose answer did not say so is told as "nothing was debited" */
  :: d_step { n_inq_req && (g == G_REVERSED || (g == G_DECLINED && g_answer != A_DECLINED)) && !n_inq_reversed ->
      n_inq_reversed = 1 }
  od
}

/* --- store and forward (gateway/reversal.py) and answers that nobody waited for ------------------------------------ */

#ifdef REVERSAL_SENT_ONCE
#define MAY_REPEAT (!g_attempted)
#else
#define MAY_REPEAT 1
#endif

active proctype gateway_reversals() {
  do
  :: d_step { g == G_UNKNOWN -> gateway_moves(G_UNKNOWN, G_REV_QUEUED); g_rev = 1 }
#ifndef NO_ACK_CLOCK
  :: d_step { g == G_APPROVED && !ack_by_passed -> ack_by_passed = 1 }
  :: d_step { g == G_APPROVED && ack_by_passed -> gateway_moves(G_APPROVED, G_REV_QUEUED); g_rev = 1 }
#endif
  /* an attempt is counted, then sent: first 0420, then 0421 with the same STAN */
#ifdef COUNT_AFTER_SEND
  :: d_step { g == G_REV_QUEUED && !n_0420[g_rev] && !n_0430[g_rev] && !g_to_reverse ->
      firsts = (!g_attempted && firsts < 2 -> firsts + 1 : firsts); n_0420[g_rev] = 1; g_to_reverse = 1 }
  :: d_step { g == G_REV_QUEUED && g_to_reverse -> g_attempted = 1; g_to_reverse = 0 }
#else
  :: d_step { g == G_REV_QUEUED && !n_0420[g_rev] && !n_0430[g_rev] && !g_to_reverse && MAY_REPEAT ->
      firsts = (!g_attempted -> 1 : firsts); g_attempted = 1; g_to_reverse = 1 }
  :: d_step { g == G_REV_QUEUED && g_to_reverse -> n_0420[g_rev] = 1; g_to_reverse = 0 }
#endif
  :: d_step { g == G_REV_QUEUED && n_0430[g_rev] && (s_reversal_rc[g_rev] == RC_00 || s_reversal_rc[g_rev] == RC_94) ->
      g_found = 1; g_to_reverse = 0; gateway_moves(G_REV_QUEUED, G_REVERSED) }
  :: d_step { g == G_REV_QUEUED && n_0430[g_rev] && s_reversal_rc[g_rev] == RC_25 && !g_approved && !g_late_approved ->
      g_to_reverse = 0; gateway_moves(G_REV_QUEUED, G_REVERSED) }
  /* the switch does not know an original that it approved, or gives a code that needs a person */
  :: d_step { g == G_REV_QUEUED && n_0430[g_rev] &&
      (s_reversal_rc[g_rev] == RC_13 || (s_reversal_rc[g_rev] == RC_25 && (g_approved || g_late_approved))) ->
      g_to_reverse = 0; gateway_moves(G_REV_QUEUED, G_REV_FAILED) }
  /* a late approval is filed and changes nothing, unless the switch had said that it knows no original */
  :: d_step { (g == G_UNKNOWN || g == G_REV_QUEUED) && !g_approved && !g_late_approved && n_0210[g_stan] &&
      s_sale_rc[g_stan] == RC_00 ->
      g_late_approved = 1;
#ifdef LATE_APPROVAL_REVIVES
      g = G_APPROVED; g_approved = 1
#endif
    }
  :: d_step { g == G_REVERSED && !g_found && !g_approved && !g_late_approved && n_0210[g_stan] &&
      s_sale_rc[g_stan] == RC_00 ->
      g_late_approved = 1; gateway_moves(G_REVERSED, G_REV_QUEUED); g_rev = 2; g_attempted = 0; firsts = 0 }
  od
}

/* === switch and issuer ============================================================================================ */

inline debit(stan) { s_sale[stan] = S_APPROVED; debits = (debits < 2 -> debits + 1 : debits) }

/* 0200: done once; a trace that is known gets the stored answer */
inline takes_sale(stan) {
  if
  :: s_sale[stan] == S_NONE ->
    if
    :: debit(stan); s_sale_rc[stan] = RC_00
    :: debit(stan); s_sale_rc[stan] = RC_68 /* too late for the switch, not for the issuer */
    :: s_sale[stan] = S_DECLINED; s_sale_rc[stan] = RC_68
    :: s_sale[stan] = S_DECLINED; s_sale_rc[stan] = RC_05
    :: s_sale[stan] = S_DECLINED; s_sale_rc[stan] = RC_91
    fi
  :: s_sale[stan] == S_FORESTALLED && s_sale_rc[stan] == NO_RC -> s_sale_rc[stan] = RC_05
  :: else ->
#ifdef SWITCH_DEBITS_REPEATS
    if
    :: s_sale[stan] == S_APPROVED -> debit(stan)
    :: else
    fi
#else
    skip
#endif
  fi;
  n_0210[stan] = 1
}

/* 0420 and 0421, whose DE 90 names the 0200: likewise */
inline takes_reversal(rev) {
  if
  :: s_reversal_rc[rev] == NO_RC ->
    if
    :: s_sale[g_stan] == S_APPROVED ->
      s_sale[g_stan] = S_REVERSED; reversals = (reversals < 2 -> reversals + 1 : reversals);
      s_reversal_rc[rev] = RC_00
    :: s_sale[g_stan] == S_NONE ->
#ifndef SWITCH_DOES_NOT_FORESTALL
      s_sale[g_stan] = S_FORESTALLED;
#endif
      s_reversal_rc[rev] = RC_25
    :: s_sale[g_stan] == S_DECLINED || s_sale[g_stan] == S_FORESTALLED -> s_reversal_rc[rev] = RC_00
    :: s_sale[g_stan] == S_REVERSED -> s_reversal_rc[rev] = RC_94
    :: s_reversal_rc[rev] = RC_13 /* a code that needs a person; nothing was done */
    fi
  :: else ->
#ifdef SWITCH_REVERSES_REPEATS
    if
    :: s_sale[g_stan] == S_REVERSED -> reversals = (reversals < 2 -> reversals + 1 : reversals)
    :: else
    fi
#else
    skip
#endif
  fi;
  n_0430[rev] = 1
}

active proctype switch() {
  do
  :: atomic { n_0200[1] && !n_0210[1] -> takes_sale(1) }
  :: atomic { n_0200[2] && !n_0210[2] -> takes_sale(2) }
  :: atomic { n_0420[1] && !n_0430[1] -> takes_reversal(1) }
  :: atomic { n_0420[2] && !n_0430[2] -> takes_reversal(2) }
  od
}

/* === what may go wrong ============================================================================================ */

/* A loss that nobody would make good by repeating is not modelled: it is the same as a delay that never ends. */
active proctype storms() {
  do
  :: d_step { storm && n_preq && BUYER_WAITS -> n_preq = 0 }
  :: d_step { storm && n_told != NOTHING -> n_told = NOTHING }
  :: d_step { storm && n_auth_req && MERCHANT_WAITS -> n_auth_req = 0 }
  :: d_step { storm && (n_approved || n_declined || n_no_reply || n_error) ->
      n_approved = 0; n_declined = 0; n_no_reply = 0; n_error = 0 }
  :: d_step { storm && n_auth_ack && m == M_AUTHORISED -> n_auth_ack = 0 }
  :: d_step { storm && (n_ack_taken || n_ack_late) -> n_ack_taken = 0; n_ack_late = 0 }
  :: d_step { storm && n_inq_req -> n_inq_req = 0 }
  :: d_step { storm && (n_inq_reversed || n_inq_declined) ->
      n_inq_reversed = 0; n_inq_declined = 0 }
  :: d_step { storm && g_run == WAITING && n_0200[g_stan] -> n_0200[g_stan] = 0 }
  :: d_step { storm && g_stan != 0 && n_0210[g_stan] -> n_0210[g_stan] = 0 }
  :: d_step { storm && g == G_REV_QUEUED && n_0420[g_rev] -> n_0420[g_rev] = 0 }
  :: d_step { storm && g == G_REV_QUEUED && n_0430[g_rev] -> n_0430[g_rev] = 0 }
  /* kill -9 of the gateway, and its next start: memory is gone, orders that were SENT become UNKNOWN */
  :: d_step { storm && (g_run != IDLE || g_ack_checked || g_to_reverse) ->
      g_run = IDLE; g_ack_checked = 0; g_to_reverse = 0;
      if
#ifdef RERUN_AFTER_SENT
      :: g == G_SENT -> g = G_VERIFIED
#else
      :: g == G_SENT -> gateway_moves(G_SENT, G_UNKNOWN)
#endif
      :: else
      fi
    }
  od
}

active proctype calm() {
  storm -> storm = 0
}
