/* SPDX-License-Identifier: Apache-2.0 */
/* The serving side of rpc.h. */
#ifndef BUS_RPC_SERVED_H
#define BUS_RPC_SERVED_H

#include "rpc.h"

/* Finds the handler and calls it; or answers by itself. False: malformed. */
bool rpc_serve_request(struct rpc *rpc, const struct rpc_sender *from, const Mobo__V1__Hdr *hdr,
		       const void *body, size_t len);
void rpc_serve_cancel(struct rpc *rpc, uint32_t node, uint64_t corr);
/* Requests of that node (or all) have lost their sender. */
void rpc_serve_gone(struct rpc *rpc, uint32_t node, bool all);
void rpc_serve_finish(struct rpc *rpc);

#endif
