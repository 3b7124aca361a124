import sys; sys.path.insert(0,'/tmp/w/mlw')
import numpy as np, jax, jax.numpy as jnp, time
from dataclasses import dataclass, replace
from functools import partial
from typing import Any
from morphot_jax import prepare_maps, kernels
from morphot_jax.maps.window import bounding_box
from morphot_jax.transport import loop, anderson
from morphot_jax.transport import barycenter as B, sinkhorn as S
from morphot_jax.transport.barycenter import *
from morphot_jax.transport.barycenter import _weighted_sum,_measures,_first_state,_solution
from morphot_jax.transport.hierarchy import hierarchy_of, Hierarchy, EMPTY, separable, _doubling
from morphot_jax.transport import hierarchy as H
from morphot_jax.transport.pytree import pytree
H.CELLS=1.4
from morphot_jax.transport.loop import *
from morphot_jax.transport.relaxation import *
from morphot_jax.transport.sinkhorn import solve_sinkhorn
sys.path.insert(0,'/tmp/w/mlw')
from experiments.cases import build_case
LIMIT=1.0; DEPTH=5
@pytree
@dataclass(frozen=True)
class Mem:
    hierarchy: Any
    mixing: Any
@dataclass(frozen=True)
class ML:
    measured=("marginal_error","change_l1","change_l2"); lost=4.0
    def start(self,problem,guess):
        state=_first_state(problem,guess)
        h=hierarchy_of(problem.kernel,state.barycenter)
        return Start(state,Mem(h,jax.vmap(partial(anderson.start,DEPTH))(state.log_v)),jnp.ones(state.unreached.shape,bool))
    def step(self,problem,options,state,memory,iteration):
        maps,weights,kernel=problem.maps,problem.shares,problem.kernel
        log_kv=kernels.log_apply_between(kernel,state.log_v,None,maps.places)
        log_u=jnp.where(jnp.isneginf(log_kv),-jnp.inf,maps.log_mass-log_kv)
        log_ku=kernels.log_apply_between(kernel,log_u,maps.places,None)
        log_second=state.log_v+log_ku
        log_q=_weighted_sum(weights,log_ku)
        q=jnp.exp(log_q); c=jnp.exp(log_second)
        plain=jnp.where(jnp.isfinite(log_q)[:,None],log_q[:,None]-log_ku,-jnp.inf)
        error=_weighted_sum(weights,jnp.sum(jnp.abs(c-q[:,None]),axis=(-3,-2,-1)))
        gq=memory.hierarchy.sums(q[:,None]); gc=memory.hierarchy.sums(c)
        # floor by the largest wanted
        coarse=memory.hierarchy.correction(gq,gc,LIMIT)
        coarse=coarse-_weighted_sum(weights,coarse)[:,None]
        bold=(iteration>0)&(error<=anderson.GROWTH*memory.mixing.error)
        image=plain+jnp.where(bold[:,None,None,None,None]&jnp.isfinite(coarse),coarse,0.0)
        weight=weights[:,:,None,None,None]*q[:,None]
        log_v,mix=jax.vmap(anderson.mix,in_axes=(0,0,0,0,0,None))(memory.mixing,state.log_v,image,weight,error,iteration)
        unreached=_weighted_sum(weights,jnp.sum(jnp.where(jnp.isneginf(log_kv),jnp.exp(maps.log_mass),0.),axis=-1))
        return State(log_u,log_v,q,unreached,state.bias),Mem(memory.hierarchy,mix),_measures(weights,error,q,state.barycenter)
    def finish(self,problem,state,ending): return _solution(problem,state,ending)

with jax.enable_x64(True):
    for n in sys.argv[1:]:
        c=build_case(n); m=prepare_maps([c.first,c.last]); a,b=(v.data.astype(float) for v in m.volumes)
        for kk in (3,4):
            maps=np.stack([a,b,np.rot90(a,1,(1,2)).copy(),np.rot90(b,1,(0,1)).copy()])[:kk]
            inner=bounding_box(maps.sum(0)>0); maps=maps[(slice(None),*inner)]; sig=64/60
            k=kernels.dense(maps.shape[1:],sig)
            w=np.eye(kk)*.5+.5/kk; w=np.vstack([w[:2],np.full(kk,1/kk)]); w=jnp.asarray(w)
            P=Problem(side_of(maps),w,k); ref=None
            for name,sol,opt in (('relaxed',Barycenter(None),Options(1e-6,AUTOMATIC,500)),('multi',ML(),Options(1e-6,AUTOMATIC,200))):
                a0=time.perf_counter(); s=jax.block_until_ready(loop.solve(sol,P,opt)); a0=time.perf_counter(); s=jax.block_until_ready(loop.solve(sol,P,opt)); t=time.perf_counter()-a0
                d='' if ref is None else f'diff {float(jnp.abs(s.value-ref).sum((1,2,3)).max()):.1e}'
                ref=s.value if ref is None else ref
                print(n,'k',kk,maps.shape,name,np.asarray(s.iterations),np.asarray(s.status),f'{t:.2f}s',d,flush=True)
